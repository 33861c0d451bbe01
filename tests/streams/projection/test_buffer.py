"""Chunks between the consumer and the next transaction."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from streams.projection import buffer as limits
from streams.projection.buffer import Buffer
from streams.records import Chunk
from tests.streams.projection.records import records, result


class Event:
    """As Faust's, of which a buffer needs only the value."""

    def __init__(self, first: int, count: int) -> None:
        chunk = records(*(result(first + n) for n in range(count)), first=first)
        self.value: Any = Chunk("results", 0, first, chunk)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_RECORDS", 10)
    monkeypatch.setattr(limits, "BUSY_RECORDS", 8)


async def take(buffer: Buffer) -> Sequence[int]:
    return [chunk.contents.first for chunk in await buffer.take()]


def test_one_transaction_takes_all_chunks_in_order() -> None:
    async def run() -> None:
        buffer = Buffer()
        for first in (0, 2, 4):
            await buffer.put(Event(first, 2))
        assert await take(buffer) == [0, 2, 4]
        assert not buffer

    asyncio.run(run())


def test_a_chunk_waits_for_room_and_one_beyond_all_limits_is_taken_alone() -> None:
    async def run() -> None:
        buffer = Buffer()
        await buffer.put(Event(0, 30))
        putting = asyncio.create_task(buffer.put(Event(30, 1)))
        await asyncio.sleep(0.05)
        assert not putting.done()
        assert await take(buffer) == [0]
        await putting
        assert await take(buffer) == [30]

    asyncio.run(run())


def test_the_records_of_a_chunk_are_released_once_they_are_read() -> None:
    async def run() -> None:
        event = Event(0, 1)
        await Buffer().put(event)
        assert event.value is None

    asyncio.run(run())


def test_under_load_a_transaction_waits_for_the_buffer_to_fill() -> None:
    async def run() -> None:
        buffer = Buffer()
        await buffer.put(Event(0, 8))
        await take(buffer)
        await buffer.put(Event(8, 8))
        taking = asyncio.create_task(take(buffer))
        await asyncio.sleep(0.05)
        assert not taking.done()
        putting = asyncio.create_task(buffer.put(Event(16, 8)))
        assert await taking == [8]
        await putting

    asyncio.run(run())


def test_without_load_a_row_is_stored_at_once() -> None:
    async def run() -> None:
        buffer = Buffer()
        await buffer.put(Event(0, 1))
        await take(buffer)
        await buffer.put(Event(1, 1))
        start = time.monotonic()
        assert await take(buffer) == [1]
        assert time.monotonic() - start < limits.GATHER_SECONDS

    asyncio.run(run())
