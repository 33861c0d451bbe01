"""Holes in a log, and how long they must last."""

from typing import NamedTuple

import pytest

from streams.records import Holes, find_hole


class Record(NamedTuple):
    offset: int


@pytest.mark.parametrize(
    ("offsets", "first", "before"),
    [
        ([], 7, None), ([7], 7, None), ([7, 8, 9], 7, None),
        ([8], 7, 0), ([7, 9], 7, 1), ([7, 8, 10, 12], 7, 2), ([8, 9, 10], 7, 0),
    ],
)  # fmt: skip
def test_the_first_hole_is_found(offsets: list[int], first: int, before: int | None) -> None:
    assert find_hole([Record(offset) for offset in offsets], first) == before


def test_a_hole_is_real_if_it_is_there_at_a_second_reading() -> None:
    holes, tp, other = Holes(), "tasks-0", "tasks-1"
    assert [holes.is_real(tp, 7, 10.0, 0.0), holes.is_real(tp, 7, 10.0, 0.0)] == [False, True]
    assert [holes.is_real(tp, 9, 10.1, 0.0), holes.is_real(other, 9, 10.1, 0.0)] == [False, False]


def test_a_hole_must_last_as_long_as_the_broker_may_take_to_fill_it() -> None:
    holes, tp = Holes(), "tasks-0"
    times = [10.0, 10.1, 10.9, 11.0]
    assert [holes.is_real(tp, 7, now, 1.0) for now in times] == [False, False, False, True]
    holes.forget(tp)
    assert not holes.is_real(tp, 7, 11.1, 1.0)
    holes.clear()
    assert not holes.is_real(tp, 7, 12.2, 1.0)
