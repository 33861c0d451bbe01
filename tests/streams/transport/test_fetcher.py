"""The faster fetcher returns the same records and positions as aiokafka's own."""

from typing import Any

import pytest
from aiokafka import errors
from aiokafka.consumer import fetcher as stock
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streams.transport import fetcher

TP = TopicPartition("tasks", 1)


def batch(first: int, count: int) -> bytes:
    """A record batch of the offsets `first` to `first + count - 1`, as a broker stores it."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 10_000_000)
    for n in range(count):
        name = b"%d" % (first + n)
        builder.append(n, 1_763_920_000_000 + n, b"k" + name, b"v" + name, [("h", name)])
    built = builder.build()
    built[0:8] = first.to_bytes(8, "big")  # the base offset, which the broker sets
    return bytes(built)


def parts(kind: Any, data: bytes, start: int) -> Any:
    return kind(TP, MemoryRecords(data), [], start, None, None, True, 0)


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


def test_a_damaged_batch_is_refused_and_the_position_stays_before_it() -> None:
    damaged = bytearray(batch(100, 5) + batch(105, 5))
    damaged[-1] ^= 1
    ours = parts(fetcher.PartitionRecords, bytes(damaged), 100)
    assert fields(ours.take(5)[0]) == fields(
        list(parts(stock.PartitionRecords, batch(100, 5), 100))
    )
    with pytest.raises(errors.CorruptRecordException):
        ours.take(5)
    assert ours.next_fetch_offset == 105


def test_the_overridden_names_are_still_aiokafkas() -> None:
    """If an upgrade renames them, this fails; otherwise only the throughput would show it."""
    assert stock.Fetcher._proc_fetch_request.__code__.co_names.count("PartitionRecords") == 1
    assert "FetchResult" in stock.Fetcher._proc_fetch_request.__code__.co_names
    assert stock.Fetcher.fetched_records.__code__.co_names.count("getall") == 1
    before = stock.PartitionRecords, stock.FetchResult
    try:
        fetcher.install()
        assert (stock.PartitionRecords, stock.FetchResult) == (
            fetcher.PartitionRecords, fetcher.FetchResult
        )  # fmt: skip
    finally:
        stock.PartitionRecords, stock.FetchResult = before
