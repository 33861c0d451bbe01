"""What a broker refuses for ever is found by halving, and another message is sent in its place."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTimestampError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
)
from aiokafka.record.memory_records import MemoryRecords

from infra.topics import RESULTS
from streams.transport.producer import BATCH_BYTES, NO_TIMESTAMP, Message, Outgoing, Producer

LIMIT = 2000
TASKS_TIME = 1_700_000_000_000


class Log:
    """What a broker has taken, and its rules."""

    def __init__(self, max_bytes: int = LIMIT, latest_ms: float = float("inf")) -> None:
        self.max_bytes = max_bytes
        self.latest_ms = latest_ms
        self.records: list[Any] = []
        self.producers: list[Picky] = []

    def refusal(self, data: bytes) -> Any:
        records = list(MemoryRecords(data).next_batch())
        if len(data) > self.max_bytes:
            return MessageSizeTooLargeError
        if max(r.timestamp for r in records) > self.latest_ms:
            return InvalidTimestampError
        self.records += records
        return None


class Picky(AIOKafkaProducer):  # type: ignore[misc]
    """An idempotent producer of a broker that refuses; after a refusal it is out of order."""

    def __init__(self, log: Log) -> None:
        super().__init__(max_batch_size=BATCH_BYTES)
        self.log = log
        self.refused = False
        log.producers.append(self)

    async def start(self) -> None:
        return None

    async def send_batch(self, batch: Any, _topic: str, *, partition: int) -> Any:
        reply = asyncio.get_running_loop().create_future()
        error = OutOfOrderSequenceNumber if self.refused else None
        error = error or self.log.refusal(bytes(batch._build()))
        if error is None:
            reply.set_result(None)
        else:
            self.refused = True
            reply.set_exception(error())
        return reply


class Connected(Producer):
    """Our producer, connected to that broker."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.transport = SimpleNamespace(idempotence=True)
        self._producer = Picky(log)

    def _new_producer(self, _id: Any = None) -> Picky:
        return Picky(self.log)


def instead(n: int, refused: int, error: Exception) -> tuple[Message, list[Any]] | None:
    """First another message that is too large, then a short one."""
    if refused == 2:
        return None
    long = b"x" * LIMIT * (1 - refused)
    return (b"%d" % n, type(error).__name__.encode() + long), []


def published(log: Log, *values: list[bytes], instead: Any = instead) -> list[tuple[Any, Any]]:
    """Publish lists of values at the same time; returns what the log has, repeats once."""

    async def run() -> None:
        producer = Connected(log)
        deliveries: list[Any] = []
        for part in values:
            messages = [(b"%d" % n, value) for n, value in enumerate(part)]
            outgoing = Outgoing(RESULTS, 3, messages, [], instead, TASKS_TIME)
            deliveries += await producer.publish(outgoing)
        try:
            await asyncio.gather(*deliveries)
        finally:
            await asyncio.gather(*(producer.stop() for producer in log.producers))

    asyncio.run(run())
    return list(dict.fromkeys((r.key, r.value) for r in log.records))


@pytest.mark.parametrize("place", [0, 4, 8])
def test_a_message_that_is_too_large_alone_is_replaced_and_all_others_are_written(
    place: int,
) -> None:
    values = [b"v%d" % n for n in range(9)]
    values[place] = b"x" * LIMIT
    expected = {(b"%d" % n, v) for n, v in enumerate(values) if n != place}
    expected.add((b"%d" % place, b"MessageSizeTooLargeError"))
    assert set(published(Log(), values)) == expected


def test_batches_that_follow_a_refused_one_are_written_too() -> None:
    lists = [[b"x" * LIMIT, b"a"], [b"b"], [b"c", b"y" * LIMIT]]
    found = published(Log(), *lists)
    assert {v for _, v in found} == {b"a", b"b", b"c", b"MessageSizeTooLargeError"}


def test_a_topic_that_takes_less_than_our_batches_gets_smaller_ones() -> None:
    values = [b"%d" % n * 500 for n in range(10)]
    assert [v for _, v in published(Log(), values)] == values


def test_the_time_of_the_tasks_is_taken_where_that_of_the_clock_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Log(latest_ms=(time.time() - 7200) * 1000)
    assert len(published(log, [b"a", b"b"], [b"c"])) == 3
    assert {r.timestamp for r in log.records} == {TASKS_TIME}
    assert caplog.text.count("set the clock") == 1


def test_no_time_is_taken_where_that_of_the_tasks_is_refused_too() -> None:
    log = Log(latest_ms=TASKS_TIME - 1)
    assert len(published(log, [b"a", b"b"], [b"c"])) == 3
    assert {r.timestamp for r in log.records} == {NO_TIMESTAMP}


def test_a_message_without_another_in_its_place_is_an_error() -> None:
    with pytest.raises(MessageSizeTooLargeError):
        published(Log(), [b"a", b"x" * LIMIT], instead=lambda _n, _refused, _error: None)
