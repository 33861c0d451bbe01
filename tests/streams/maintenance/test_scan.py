"""A whole topic is read once, with its late records, to the end that it had."""

import asyncio
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition

from infra.errors import BrokerUnavailable
from streams.errors import LogReplaced
from streams.maintenance.scan import Log, refuse_replaced
from streams.records import OffsetPolicy

TP = TopicPartition("results", 0)


class Record(NamedTuple):
    offset: int


class Consumer:
    """Returns one fetch after the other, as lists of offsets; `end` is the log's end.

    A None in a fetch is an offset without a record, such as a transaction's marker.
    """

    def __init__(self, *fetches: list[int | None], end: int) -> None:
        self._fetches = list(fetches)
        self._end = end
        self._position = 0
        self._time_ms = 0
        self.sought: list[int] = []

    async def getmany(self, **_: int) -> dict[TopicPartition, list[Record]]:
        self._time_ms += 600
        fetch = self._fetches.pop(0)
        records = [Record(offset) for offset in fetch if offset is not None]
        if records:
            self._position = records[-1].offset + 1
        self._position += fetch.count(None)
        return {TP: records} if records else {}

    def assignment(self) -> set[TopicPartition]:
        return {TP}

    def highwater(self, _: TopicPartition) -> int:
        return self._end

    def last_poll_timestamp(self, _: TopicPartition) -> int:
        return self._time_ms

    async def position(self, _: TopicPartition) -> int:
        return self._position

    def seek(self, _: TopicPartition, offset: int) -> None:
        self._position = offset
        self.sought.append(offset)


def scan(consumer: Consumer, end: int, cluster: str) -> list[tuple[int, list[int]]]:
    """Each chunk's first offset, and the offsets of its records."""
    policy = OffsetPolicy(refuse_replaced)
    policy.learn(cluster)
    log = Log(consumer, policy, {0: 0})
    log.ends = {0: end}

    async def run() -> list[tuple[int, list[int]]]:
        return [(c.first, [r.offset for r in c.records]) async for c in log.chunks()]

    return asyncio.run(run())


def test_a_scan_ends_where_the_log_ended_when_it_was_opened() -> None:
    consumer = Consumer([0, 1], [2, 3, 4], end=9)
    assert scan(consumer, 4, "kafka-1") == [(0, [0, 1]), (2, [2, 3])]


def test_a_scan_waits_for_late_records_of_the_embedded_broker() -> None:
    consumer = Consumer([0, 2], [2], [1, 2, 3], end=4)
    assert scan(consumer, 4, "embedded-1") == [(0, [0]), (1, [1, 2, 3])]
    assert consumer.sought == [1, 1]


def test_a_scan_passes_over_gaps_in_the_log_and_at_its_end() -> None:
    consumer = Consumer([0, 2], [4], [4], [], [None], end=6)
    assert scan(consumer, 6, "kafka-1") == [(0, [0, 2]), (3, [4])]
    assert consumer.sought == [3]


def test_a_scan_of_a_topic_that_is_recreated_meanwhile_ends_with_an_error() -> None:
    message = (
        "results[0] ends before offset 2: the topic was recreated while it was read; start again"
    )
    with pytest.raises(LogReplaced) as replaced:
        scan(Consumer([0, 1], *[[]] * 20, end=1), 4, "kafka-1")
    assert str(replaced.value) == message


class Silent(Consumer):
    """A consumer whose broker does not answer any more."""

    _isolation_level = "read_committed"

    def __init__(self, end: int | None) -> None:
        super().__init__(end=0)
        self._known = end

    async def getmany(self, **_: int) -> dict[TopicPartition, list[Record]]:
        await asyncio.sleep(0.01)
        return {}

    def highwater(self, _: TopicPartition) -> Any:
        return self._known

    def last_stable_offset(self, _: TopicPartition) -> Any:
        return self._known


def test_a_scan_of_a_broker_that_falls_silent_ends_within_its_time() -> None:
    message = "the broker has not answered for 0.05 s while results was read"
    never = Log(Silent(None), OffsetPolicy(refuse_replaced), {0: 0}, silence=0.05)
    with pytest.raises(BrokerUnavailable, match=message):
        asyncio.run(never.find_ends())

    async def read() -> None:
        log = Log(Silent(4), OffsetPolicy(refuse_replaced), {0: 0}, silence=0.05)
        log.ends = {0: 4}
        async for _ in log.chunks():
            pass

    with pytest.raises(BrokerUnavailable, match=message):
        asyncio.run(read())
