"""Columns of users' tables: what a model learns from, what is named, what is refused."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from model.errors import TableError
from model.training.columns import Columns, choose, plain

ROWS = 60
GROUPS = ["flat", "Häuschen", "terraced house"] * (ROWS // 3)


def table(**columns: Any) -> pd.DataFrame:
    """A table of a number and the given columns, whose first row is in line 2."""
    frame = pd.DataFrame({"size": np.arange(ROWS) % 7 + 0.5, **columns})
    frame.index = pd.RangeIndex(2, ROWS + 2, name="line")
    return frame


def chosen(frame: pd.DataFrame) -> tuple[Columns, list[str]]:
    notes: list[str] = []
    return choose(frame, notes.append), notes


@pytest.mark.parametrize(
    ("column", "kind", "dtype"),
    [
        (np.arange(ROWS) % 5, "number", "int64"),
        (np.tile(np.array([1, 2, 3], dtype="uint8"), ROWS // 3), "number", "int64"),
        (pd.array([1, None, 3] * (ROWS // 3), dtype="Int64"), "number", "float64"),
        ([True, False, True] * (ROWS // 3), "boolean", "bool"),
        ([True, False, None] * (ROWS // 3), "boolean", "object"),
        (pd.array([True, None, False] * (ROWS // 3), dtype="boolean"), "boolean", "object"),
        (GROUPS, "category", "str"),
        (pd.Categorical(GROUPS), "category", "str"),
        (["01067", "80331", None] * (ROWS // 3), "category", "str"),
        ([f"a text of words {n}" for n in range(ROWS)], "text", "str"),
        (["1", "2", "3 or more"] * (ROWS // 3), "category", "str"),
        ([f"{n:05}" for n in range(30)] * 2, "category", "str"),
    ],
)
def test_a_column_has_the_kind_of_its_values(column: Any, kind: str, dtype: str) -> None:
    columns, notes = chosen(table(x=column))
    assert (columns.kinds, str(columns.X["x"].dtype), notes) == (
        {"size": "number", "x": kind}, dtype, [],
    )  # fmt: skip


def test_a_column_of_one_value_is_left_out_and_named() -> None:
    frame = table(one="x", empty=np.nan, missing=["x", None, None] * (ROWS // 3))
    columns, notes = chosen(frame)
    assert list(columns.X) == ["size", "missing"]
    assert notes == ["left out, because all rows have one value or none: one, empty"]


@pytest.mark.parametrize(
    ("name", "column", "is_named"),
    [
        ("Unnamed: 0", [0, 1, 2] * (ROWS // 3), True),
        ("ID", [0, 1, 2] * (ROWS // 3), True),
        ("customer id", [f"c{n}" for n in range(ROWS)], True),
        ("number", list(range(900, 900 + ROWS)), True),
        ("code", [f"c{n}" for n in range(ROWS)], True),
        ("store_id", [0, 1, 2] * (ROWS // 3), False),
        ("text", [f"a text of words {n}" for n in range(ROWS)], False),
        ("measure", [n / 7 for n in range(ROWS)], False),
        ("valid", [0, 1, 2] * (ROWS // 3), False),
    ],
)
def test_a_column_like_an_id_is_named_and_kept(name: str, column: Any, is_named: bool) -> None:
    columns, notes = chosen(table(**{name: column}))
    assert name in columns.X
    quoted = f"'{name}'" if " " in name else name
    sentence = f"column {name} looks like an id; to leave it out: --drop {quoted}"
    assert notes == ([sentence] if is_named else [])


@pytest.mark.parametrize(
    ("column", "fault"),
    [
        ([1.0, np.inf, -np.inf] * (ROWS // 3), "has 40 infinite values, the first in line 3"),
        ([f"{n}" for n in range(ROWS - 2)] + ["?", "?"],
         "has 2 of 60 values that are no numbers, such as '?' in line 60"),
        ([f"2024-01-{n % 28 + 1:02}" for n in range(ROWS)], "holds dates, such as '2024-01-01'"),
        ([f"{n % 28 + 1}.1.2024" for n in range(ROWS)], "holds dates, such as '1.1.2024'"),
        ([f"$1,{n:03}" for n in range(ROWS)],
         "holds numbers with a unit, a decimal comma or separated thousands, such as '$1,000'; "
         "write plain numbers, or give --decimal"),
        ([f"1.{n:03},5" for n in range(ROWS)],
         "holds numbers with a unit, a decimal comma or separated thousands, such as '1.000,5'; "
         "write plain numbers, or give --decimal"),
        ([f"{n} %" for n in range(ROWS)],
         "holds numbers with a unit, a decimal comma or separated thousands, such as '0 %'; "
         "write plain numbers, or give --decimal"),
        ([1, "x", 2.5] * (ROWS // 3), "holds values of several types"),
        (np.arange(ROWS).astype("timedelta64[s]"), "holds values of the type timedelta64[s]"),
        ([b"x", b"y"] * (ROWS // 2), "holds values of the type bytes"),
    ],
)  # fmt: skip
def test_a_column_that_cannot_be_learnt_from_is_refused(column: Any, fault: str) -> None:
    with pytest.raises(TableError) as refused:
        chosen(table(**{"my x": column}))
    assert str(refused.value) == (
        f"a model cannot learn from these columns: my x {fault}; to leave them out: --drop 'my x'"
    )


def test_all_columns_that_cannot_be_learnt_from_are_named_at_once() -> None:
    frame = pd.DataFrame({"a": [f"c{n}" for n in range(10_000)], "b": [np.inf, 1] * 5_000})
    with pytest.raises(TableError) as refused:
        chosen(frame)
    assert str(refused.value) == (
        "a model cannot learn from these columns: a has 10,000 distinct texts, and 1,000 are the "
        "most for categories; b has 5,000 infinite values, the first in row 0; to leave them out: "
        "--drop a --drop b"
    )


def test_decimal_numbers_of_a_database_are_numbers() -> None:
    from decimal import Decimal

    column = plain(pd.Series([Decimal("1.5"), None]))
    assert (str(column.dtype), column[0]) == ("float64", 1.5)
