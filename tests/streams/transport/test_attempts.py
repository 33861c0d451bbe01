"""The count of attempts at an offset, and which records are handled alone."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from streams.records import Reading
from streams.transport.attempts import (
    ALONE_RECORDS,
    CLEAN_RECORDS,
    Attempts,
    AttemptSettings,
    FileCounter,
)
from streams.transport.thread import ConsumerThread

TASKS_2 = TP("tasks", 2)
NO_THREAD: Any = ConsumerThread.__new__(ConsumerThread)  # the embedded broker needs none


def new_attempts(folder: Path, log: str = "embedded-1", window: int = 1000) -> Attempts:
    settings = AttemptSettings(folder=folder, group="petal-worker", embedded=True, window=window)
    return Attempts(settings, NO_THREAD, lambda: log)


def reading(first: int, count: int) -> Reading:
    return Reading(first, [SimpleNamespace(offset=first + n) for n in range(count)])


def begin(attempts: Attempts, offset: int, end: int | None, generation: int = 1) -> None:
    asyncio.run(attempts.begin(TASKS_2, generation, offset, end))


def test_records_are_alone_at_the_third_attempt_at_the_same_offset(tmp_path: Path) -> None:
    alone = []
    for _ in range(3):
        attempts = new_attempts(tmp_path)
        begin(attempts, 40, 300)
        begin(attempts, 45, 300)  # of the same generation: no other attempt
        alone.append([attempts.is_alone(TASKS_2, offset) for offset in (40, 299, 300)])
    assert alone == [[False] * 3, [False] * 3, [True, True, False]]


@pytest.mark.parametrize("log", ["embedded-1", "embedded-2"])
@pytest.mark.parametrize("offset", [40, 41])
def test_a_count_is_of_one_offset_of_one_log(tmp_path: Path, log: str, offset: int) -> None:
    for _ in range(2):
        begin(new_attempts(tmp_path), 40, 300)
    attempts = new_attempts(tmp_path, log)
    begin(attempts, offset, 300)
    same = (log, offset) == ("embedded-1", 40)
    assert attempts.is_alone(TASKS_2, offset) is same


@pytest.mark.parametrize(("given_up_at", "alone"), [(40, False), (None, True)])
def test_an_orderly_end_resets_the_count(
    tmp_path: Path, given_up_at: int | None, alone: bool
) -> None:
    for _ in range(2):
        attempts = new_attempts(tmp_path)
        begin(attempts, 40, 300)
    asyncio.run(attempts.reset(TASKS_2, given_up_at))
    attempts = new_attempts(tmp_path)
    begin(attempts, 40, 300)
    assert attempts.is_alone(TASKS_2, 40) is alone


def test_chunks_of_records_that_are_alone_are_small(tmp_path: Path) -> None:
    for _ in range(3):
        attempts = new_attempts(tmp_path)
        begin(attempts, 40, 40 + ALONE_RECORDS + 3)
    whole = reading(40, 200)
    first = attempts.limit(TASKS_2, whole)
    assert (first.records, first.next) == (whole.records[:ALONE_RECORDS], 40 + ALONE_RECORDS)
    rest = reading(first.next, 200 - ALONE_RECORDS)
    second = attempts.limit(TASKS_2, rest)
    assert (len(second.records), second.next) == (3, first.next + 3)
    free = reading(second.next, 100)
    assert attempts.limit(TASKS_2, free) is free


def test_records_after_one_that_was_set_aside_are_alone_too(tmp_path: Path) -> None:
    for _ in range(3):
        attempts = new_attempts(tmp_path)
        begin(attempts, 40, 300)
    attempts.found(TASKS_2, 50)
    ends = [attempts.is_alone(TASKS_2, 50 + CLEAN_RECORDS + n) for n in (-1, 0)]
    assert ends == [True, False]


def test_no_more_records_are_alone_than_a_process_may_have_had_in_hand(tmp_path: Path) -> None:
    for _ in range(3):
        attempts = new_attempts(tmp_path, window=10)
        begin(attempts, 40, 300)
    assert [attempts.is_alone(TASKS_2, offset) for offset in (49, 50)] == [True, False]


def test_a_count_that_cannot_be_written_or_read_is_none(tmp_path: Path) -> None:
    counter = FileCounter(tmp_path / "missing", "petal-worker", lambda: "embedded-1")
    asyncio.run(counter.write(TASKS_2, 40, 2))
    assert asyncio.run(counter.read(TASKS_2, 40)) == 0
    (tmp_path / "petal-worker-tasks-2.attempts").write_text("{")
    damaged = FileCounter(tmp_path, "petal-worker", lambda: "embedded-1")
    assert asyncio.run(damaged.read(TASKS_2, 40)) == 0
