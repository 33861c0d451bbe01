"""What a datetime is, and which one a column gets."""

import numpy as np
import pandas as pd
import pytest

from model.card import Feature
from model.table import table_for
from model.values import dates
from tests.model.test_table import Named


@pytest.mark.parametrize(
    "text",
    ["2024-05-01", "2024-05-01T13:30", "2024-05-01 13:30", "2024-05-01T13:30:59.123456789"],
)
def test_a_date_or_a_time_in_iso_8601_is_valid_with_and_without_a_zone(text: str) -> None:
    assert dates.fault("datetime64[us]", text) is None
    assert dates.fault("datetime64[us, UTC]", text) is None
    if len(text) > 10:
        for offset in ("Z", "+02:00", "-0530"):
            assert dates.fault("datetime64[us, UTC]", text + offset) is None
            assert "has a time zone" in (dates.fault("datetime64[us]", text + offset) or "")


@pytest.mark.parametrize(
    "text",
    [
        "", "soon", "2024", "2024-05", "01.05.2024", "05/01/2024", "20240501", "2024-02-30",
        "2024-05-01T", "2024-05-01T25:00", "2024-W18-3", "2024-05-01T13", "1714521600",
        " 2024-05-01", "2024-05-01\n", "٢٠٢٤-٠٥-٠١", "NaT",  # noqa: RUF001
    ],
)  # fmt: skip
def test_any_other_text_is_refused_with_an_example(text: str) -> None:
    assert dates.fault("", text) == (
        "is not a date or time in ISO 8601, such as 2024-05-01 or 2024-05-01T13:30"
    )


@pytest.mark.parametrize(
    ("dtype", "text", "expected"),
    [
        ("datetime64[s]", "2024-05-01 13:30:05.9", "2024-05-01 13:30:05"),
        ("datetime64[us]", "0001-01-01", "0001-01-01"),
        ("datetime64[ns]", "2024-05-01T00:00:00.000000001", "2024-05-01T00:00:00.000000001"),
        ("datetime64[us, Europe/Berlin]", "2024-05-01", "2024-05-01T00:00+02:00"),
        ("datetime64[us, Europe/Berlin]", "2024-05-01T00:00Z", "2024-05-01T02:00+02:00"),
        # Clocks go from 2 to 3 on 31 March, and from 3 to 2 on 27 October.
        ("datetime64[us, Europe/Berlin]", "2024-03-31T02:30", "2024-03-31T03:00+02:00"),
        ("datetime64[us, Europe/Berlin]", "2024-10-27T02:30", "2024-10-27T02:30+02:00"),
    ],
)
def test_a_column_gets_the_time_in_its_own_zone(dtype: str, text: str, expected: str) -> None:
    feature = Feature(name="t", type="datetime", dtype=dtype, nullable=True)
    X = np.array([[text], [np.nan], ["2024-01-01"]], dtype=object)
    made = table_for(Named("t"), [feature])(X)["t"]
    assert str(made.dtype) == dtype
    assert made[0] == pd.Timestamp(expected).tz_convert(made.dt.tz) if made.dt.tz else True
    assert made.tolist()[0].isoformat()[:19] == pd.Timestamp(expected).isoformat()[:19]
    assert made[1] is pd.NaT
