"""The trend of the seconds behind."""

import pytest

from infra.process.status import Trend
from streams.monitoring.trend import AgeTrend


@pytest.mark.parametrize(
    ("ages", "trend"),
    [
        ([0.0] * 4, None),  # seconds, one sample in each
        ([0.0] * 10, "steady"),
        ([0.0, 0.9] * 5, "steady"),
        ([float(n) for n in range(10)], "growing"),
        ([100.0 - 2 * n for n in range(10)], "shrinking"),
        ([90.0] * 30 + [float(n) for n in range(90)], "growing"),  # of the last minute only
    ],
)
def test_it_is_that_of_the_last_minute(ages: list[float], trend: Trend | None) -> None:
    noted = AgeTrend()
    assert [noted.note(age, float(second)) for second, age in enumerate(ages)][-1] == trend


def test_an_age_that_is_not_known_begins_a_new_one() -> None:
    noted = AgeTrend()
    for second in range(20):
        noted.note(float(second), float(second))
    assert noted.note(None, 20.0) is None
    assert noted.note(500.0, 21.0) is None
