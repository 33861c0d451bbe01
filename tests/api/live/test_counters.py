"""Rates, ends and durations, from looks that miss most of what happens."""

import pytest

from api.live.counters import Ends, Rate, Tally, bucket_durations, durations
from api.live.snapshot import Durations


def test_a_rate_is_the_increase_over_the_last_two_seconds() -> None:
    rate = Rate()
    assert rate.note(100, 10.0) is None
    assert rate.note(200, 11.0) == 100.0
    assert rate.note(300, 12.0) == 100.0
    assert rate.note(300, 13.0) == 50.0
    assert rate.note(300, 14.0) == 0.0


def test_a_total_that_falls_or_is_unknown_starts_a_new_rate() -> None:
    rate = Rate()
    rate.note(100, 1.0)
    assert rate.note(5, 2.0) is None
    assert rate.note(8, 3.0) == 3.0
    assert rate.note(None, 4.0) is None
    assert rate.note(9, 5.0) is None


def test_one_answer_that_serves_two_looks_does_not_change_a_rate() -> None:
    rate = Rate()
    rate.note(0, 1.0)
    assert rate.note(10, 2.0) == 10.0
    assert rate.note(10, 2.0) == 10.0


def test_an_end_is_the_furthest_that_is_known_of_the_same_log() -> None:
    ends = Ends()
    assert ends.total is None
    assert not ends.note({0: 10, 1: 5}, {0: 12})
    assert ends.known == {0: 12, 1: 5}
    assert not ends.note({0: 11, 1: 5})  # the worker that knew more has ended
    assert ends.known == {0: 12, 1: 5}
    assert sum_of(ends) == 17


def sum_of(ends: Ends) -> int | None:
    return ends.total


def test_an_end_that_falls_belongs_to_a_new_log() -> None:
    ends = Ends()
    ends.note({0: 10}, {0: 12})
    assert ends.note({0: 1}, {0: 12})  # the process still reports the old log
    assert ends.known == {0: 1}


def test_a_tally_adds_what_each_process_counts_from_the_first_look_on() -> None:
    tally = Tally()
    assert tally.note({"a": 100}) == 0
    assert tally.note({"a": 103, "b": 7}) == 3
    assert tally.note({"b": 9}) == 5
    assert tally.note({"a": 50, "b": 9}) == 5


def test_durations_are_the_median_and_the_99th_percentile() -> None:
    assert durations([]) is None
    assert durations([3.0]) == Durations(1, 3.0, 3.0)
    assert durations([float(n) for n in range(101)]) == Durations(101, 50.0, 99.0)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([0, 0, 0], None),
        ([10, 0, 0], Durations(10, 500.0, 990.0)),
        ([0, 10, 0], Durations(10, 1500.0, 1990.0)),
        ([50, 0, 50], Durations(100, 1000.0, 2000.0)),
    ],
)
def test_durations_of_buckets_lie_within_a_bucket(
    counts: list[int], expected: Durations | None
) -> None:
    assert bucket_durations((1.0, 2.0), counts) == expected
