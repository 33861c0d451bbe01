"""The faster fetcher returns the same records and positions as aiokafka's own."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import consumer as stock_consumer
from aiokafka.consumer import fetcher as stock
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from infra import config
from infra.broker import access, connection, fetcher
from infra.broker.batches import Frames, UndecodableBatch
from infra.config import Settings
from infra.topics import CHUNK_BYTES
from tests.infra.broker.batches import TRANSACTIONAL, batch, marker, with_bad_header_name
from tests.processes import Pipeline

TP = TopicPartition("tasks", 1)


def parts(kind: Any, data: bytes, start: int, isolation: int = 0, aborted: Any = ()) -> Any:
    frames: Any = MemoryRecords(data) if kind is stock.PartitionRecords else Frames(data)
    return kind(TP, frames, list(aborted), start, None, None, True, isolation)


def fields(records: list[Any]) -> list[tuple[Any, ...]]:
    return [(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in records]


@pytest.mark.parametrize("start", [100, 103, 109, 110])
@pytest.mark.parametrize("most", [1, 3, 7, 10, 1000])
def test_records_and_positions_are_those_of_the_stock_fetcher(start: int, most: int) -> None:
    # Two batches with a gap from 110 to 111 between them, as compaction leaves it.
    data = batch(100, 10) + batch(112, 8)
    expected = parts(stock.PartitionRecords, data, start)
    ours = parts(fetcher.PartitionRecords, data, start)
    taken: list[Any] = []
    more = True
    while more:
        part, more = ours.take(most)
        taken += part
        assert len(part) <= most
        if part:
            stocked = [next(expected) for _ in part]
            assert fields(part) == fields(stocked)
            if more:
                assert ours.next_fetch_offset in (part[-1].offset + 1, 110)
    assert list(expected) == []
    assert ours.next_fetch_offset == expected.next_fetch_offset == 120
    assert [r.offset for r in taken] == [
        o for o in [*range(100, 110), *range(112, 120)] if o >= start
    ]


def transactional(first: int, count: int, producer: int) -> bytes:
    return batch(first, count, producer=producer, attributes=TRANSACTIONAL)


@pytest.mark.parametrize("isolation", [0, 1])
@pytest.mark.parametrize("start", [0, 1])
def test_aborted_transactions_are_skipped_as_the_stock_fetcher_does(
    isolation: int, start: int
) -> None:
    # Producer 7 aborts and then commits, among records of others; producer 9 aborts later.
    data = b"".join(
        [
            transactional(0, 2, 7), batch(2, 1), transactional(3, 1, 9), transactional(4, 1, 7),
            marker(5, 7, commit=False), transactional(6, 2, 7), marker(8, 7, commit=True),
            marker(9, 9, commit=False), batch(10, 1), marker(11, 5, commit=False),
        ]
    )  # fmt: skip
    aborted = [(9, 3), (7, 0)]
    expected = parts(stock.PartitionRecords, data, start, isolation, aborted)
    ours = parts(fetcher.PartitionRecords, data, start, isolation, aborted)
    taken: list[Any] = []
    more = True
    while more:
        part, more = ours.take(1)
        taken += part
    assert fields(taken) == fields(list(expected))
    assert ours.next_fetch_offset == expected.next_fetch_offset == 12
    committed = [2, 6, 7, 10] if isolation else [0, 1, 2, 3, 4, 6, 7, 10]
    assert [r.offset for r in taken] == [offset for offset in committed if offset >= start]


def test_an_undecodable_batch_of_an_aborted_transaction_is_skipped() -> None:
    bad = bytearray(with_bad_header_name(4, 2))
    data = transactional(0, 4, 7)
    ours = parts(fetcher.PartitionRecords, data + bytes(bad), 0, 1, [(7, 0)])
    taken, more = ours.take(10)
    assert [(type(r), r.first, r.last) for r in taken] == [(UndecodableBatch, 4, 5)]
    assert (more, ours.next_fetch_offset) == (False, 6)


def test_a_damaged_batch_becomes_one_record_with_its_offsets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    damaged = bytearray(batch(105, 5))
    damaged[-1] ^= 1
    ours = parts(fetcher.PartitionRecords, batch(100, 5) + bytes(damaged) + batch(110, 5), 100)
    taken, more = ours.take(1000)
    assert [r.offset for r in taken] == [100, 101, 102, 103, 104, 109]
    bad = taken[-1]
    assert (bad.first, bad.last, bad.head) == (105, 109, bytes(damaged))
    assert bad.reason == "its checksum does not match: it is damaged"
    assert (more, ours.next_fetch_offset) == (False, 110), "the rest is fetched again"
    assert caplog.messages == [
        "tasks[1]: the batch of the offsets 105 to 109 cannot be decoded and is passed over: "
        "its checksum does not match: it is damaged"
    ]


def test_a_first_batch_that_is_cut_off_is_set_aside_and_a_later_one_is_fetched_again() -> None:
    whole = batch(100, 5)
    ours = parts(fetcher.PartitionRecords, whole + batch(105, 5)[:-1], 100)
    assert ([r.offset for r in ours.take(10)[0]], ours.next_fetch_offset) == (
        [100, 101, 102, 103, 104], 105
    )  # fmt: skip
    cut = parts(fetcher.PartitionRecords, whole[:-1], 100)
    [bad] = cut.take(10)[0]
    assert (type(bad), bad.last, cut.next_fetch_offset) == (UndecodableBatch, 104, 105)


def test_a_chunk_ends_after_so_many_bytes_after_decompression() -> None:
    value = b"0" * (CHUNK_BYTES // 2 + 1)
    data = b"".join(batch(n, 1, codec=4, value=value) for n in range(5))
    assert len(data) < 100_000
    ours = parts(fetcher.PartitionRecords, data, 0)
    sizes = []
    more = True
    while more:
        taken, more = ours.take(1000)
        sizes.append(len(taken))
    assert sizes == [2, 2, 1]


def test_the_names_that_are_replaced_are_still_aiokafkas() -> None:
    """If an upgrade renames them, this fails; otherwise only a bad batch would show it."""
    assert "Fetcher" in AIOKafkaConsumer.start.__code__.co_names
    for name, used in [
        ("_proc_fetch_request", {"MemoryRecords", "PartitionRecords", "FetchResult"}),
        ("fetched_records", {"FetchResult", "getall"}),
    ]:
        assert used <= set(getattr(stock.Fetcher, name).__code__.co_names), name
        assert getattr(fetcher.Fetcher, name) is not getattr(stock.Fetcher, name)


def test_consumers_of_other_code_keep_the_stock_fetcher() -> None:
    ours = fetcher.Fetcher._proc_fetch_request.__globals__
    theirs = stock.Fetcher._proc_fetch_request.__globals__
    assert ours["FetchResult"] is fetcher.FullFetchResult
    assert theirs["FetchResult"] is stock.FetchResult
    assert fetcher.Consumer.start.__globals__["Fetcher"] is fetcher.Fetcher
    assert fetcher.LeanConsumer.start.__globals__["Fetcher"] is fetcher.LeanFetcher
    assert vars(stock_consumer)["Fetcher"] is stock.Fetcher


class Ends:
    """A consumer that knows the ends of a partition."""

    def __init__(
        self, high: int | None, stable: int | None, level: str = fetcher.READ_COMMITTED
    ) -> None:
        self.high, self.stable, self._isolation_level = high, stable, level

    def highwater(self, _: TopicPartition) -> int | None:
        return self.high

    def last_stable_offset(self, _: TopicPartition) -> int | None:
        return self.stable


@pytest.mark.parametrize(
    ("ends", "end"),
    [
        (Ends(None, None), None),
        (Ends(9, 9), 9),
        (Ends(9, 4), 4),
        (Ends(9, None), 9),
        (Ends(9, -1), 9),
        (Ends(9, 4, fetcher.READ_UNCOMMITTED), 9),
    ],
)
def test_the_readable_end_is_before_an_open_transaction(ends: Any, end: int | None) -> None:
    assert fetcher.readable_end(ends, TP) == end


@pytest.mark.parametrize(("broker", "level"), [("", "uncommitted"), ("k.example:1", "committed")])
def test_every_reader_on_kafka_reads_committed_records_only(broker: str, level: str) -> None:
    settings = Settings(broker=broker)
    assert fetcher.isolation_level(settings) == f"read_{level}"

    async def made() -> str:
        consumer = connection.new_consumer(settings)
        await consumer.stop()
        return str(consumer._isolation_level)

    assert asyncio.run(made()) == f"read_{level}"


class Assignment:
    """Of one partition, with its position."""

    active, paused, highwater = True, False, 200

    def __init__(self, position: int) -> None:
        self.position = position

    def state_value(self, _: TopicPartition) -> "Assignment":
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position


def test_a_full_result_has_the_records_of_the_stock_fetcher() -> None:
    data = batch(100, 3) + batch(103, 2)
    assignment = Assignment(101)
    result = fetcher.FullFetchResult(
        TP,
        assignment=assignment,
        partition_records=parts(fetcher.PartitionRecords, data, 101),
        backoff=0,
    )
    expected = list(parts(stock.PartitionRecords, data, 101))
    assert [*result.getall(3), *result.getall(3)] == expected
    assert (assignment.position, result.has_more(), result.getall()) == (105, False, [])


@pytest.mark.parametrize(
    ("settings", "waits"),
    [
        (Settings(broker="k.example:1"), [20, 20, 100, 500, 500]),
        (Settings(), [20, 20, 35, 35, 35]),
        (Settings(broker="k.example:1", fetch_wait_ms=900), [900] * 5),
    ],
)
def test_the_longer_nothing_comes_the_longer_the_broker_holds_a_fetch(
    settings: Settings, waits: list[int]
) -> None:
    wait = fetcher.fetch_wait(settings)
    assert [wait.after(seconds) for seconds in (0, 0.2, 1, 5, 3600)] == waits


def test_a_fetch_is_short_while_records_wait_or_a_partition_is_paused(pipeline: Pipeline) -> None:
    """Until a fetch ends, its broker is asked for no other partition."""
    settings = config.load(pipeline.env)
    wait = fetcher.fetch_wait(settings)
    one, other = TopicPartition("results", 0), TopicPartition("results", 1)

    async def run() -> None:
        consumer, producer = (
            connection.new_consumer(settings),
            connection.new_producer(settings, 99),
        )
        async with (
            connection.connected(consumer, settings, access.EVERYONE),
            connection.connected(producer, settings, access.EVERYONE),
        ):

            async def becomes(milliseconds: int) -> None:
                async with asyncio.timeout(10):
                    while consumer._fetcher._fetch_max_wait_ms != milliseconds:
                        await asyncio.sleep(0.01)

            consumer.assign([one, other])
            await becomes(wait.quiet)
            consumer.pause(one)
            await becomes(wait.busy)
            consumer.resume(one)
            await becomes(wait.quiet)
            await producer.send_and_wait("results", b"x", partition=0)
            await becomes(wait.busy)
            taken = await consumer.getmany(timeout_ms=1000)
            assert [len(records) for records in taken.values()] == [1]
            await becomes(wait.quiet)

    asyncio.run(run())
