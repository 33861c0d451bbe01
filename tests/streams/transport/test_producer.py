"""Batches: aiokafka's own builder fills them, and what comes out is what went in."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from infra import config
from infra.topics import DEAD_LETTERS, RESULTS, TASKS, TRACE_HEADER
from model.artifact import Loaded
from streams.codec import decode_result
from streams.events import Result, new_id
from streams.records import Chunk
from streams.transport.producer import BATCH_BYTES, Producer
from streams.worker import Inference

Header = tuple[str, bytes]


class Sent(NamedTuple):
    """A record as it stands in a batch."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[Header]


class Broker(AIOKafkaProducer):  # type: ignore[misc]
    """aiokafka's producer and its real batches, and a broker that keeps them and replies later."""

    def __init__(self) -> None:
        super().__init__(max_batch_size=BATCH_BYTES)
        self.batches: dict[tuple[str, int], list[bytes]] = {}
        self.replies: list[asyncio.Future[None]] = []

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[None]:
        self.batches.setdefault((topic, partition), []).append(bytes(batch._build()))
        self.replies.append(asyncio.get_running_loop().create_future())
        return self.replies[-1]

    def sent(self, topic: str, partition: int) -> list[list[Sent]]:
        """The records of each batch."""
        return [list(_records(data)) for data in self.batches.get((topic, partition), [])]


class Connected(Producer):
    """Our producer, connected to that broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def _ensure_producer(self) -> Broker:
        return self._broker


def _records(data: bytes) -> Iterator[Sent]:
    batch = MemoryRecords(data).next_batch()
    assert batch is not None
    for r in batch:
        yield Sent(r.offset, r.key, r.value, list(r.headers))


async def send(messages: Sequence[tuple[bytes, bytes]], headers: Sequence[list[Header]]) -> Broker:
    """Send messages to a partition of `results`; as many deliveries come back as batches went."""
    broker = Broker()
    deliveries = await Connected(broker).send_all(RESULTS, 3, messages, headers)
    await broker.stop()
    assert deliveries == broker.replies
    assert len(deliveries) == len(broker.batches.get((RESULTS, 3), []))
    return broker


def message(n: int, size: int) -> tuple[bytes, bytes]:
    return b"%d" % n, (b"%d," % n).ljust(size, b".")


SIZES = st.sampled_from([0, 1, 100, 290_000, 449_000, 450_000, 899_900, 900_000, 1_500_000])


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(SIZES, max_size=12), with_headers=st.booleans())
def test_every_message_is_sent_once_in_order_with_its_own_headers(
    sizes: list[int], with_headers: bool
) -> None:
    messages = [message(n, size) for n, size in enumerate(sizes)]
    headers = [[("n", b"%d" % n)] * (n % 3) for n in range(len(sizes))] if with_headers else []
    batches = asyncio.run(send(messages, headers)).sent(RESULTS, 3)
    expected = zip(messages, headers or [[]] * len(sizes), strict=True)
    assert [(r.key, r.value, r.headers) for batch in batches for r in batch] == [
        (key, value, head) for (key, value), head in expected
    ]
    for batch in batches:
        assert [record.offset for record in batch] == list(range(len(batch)))


def test_a_batch_is_full_before_the_next_one_begins() -> None:
    messages = [message(n, 290_000) for n in range(10)] + [message(10, 2_000_000)]
    broker = asyncio.run(send(messages, []))
    assert [len(batch) for batch in broker.sent(RESULTS, 3)] == [3, 3, 3, 1, 1]
    sizes = [len(data) for data in broker.batches[RESULTS, 3]]
    assert max(sizes[:-1]) <= BATCH_BYTES
    assert all(a + b > BATCH_BYTES for a, b in pairwise(sizes[:3]))


@dataclass
class Record:
    """A record of `tasks` as the consumer gives it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Event:
    """A chunk, and whether it was acknowledged."""

    def __init__(self, records: list[Record]) -> None:
        self.value = Chunk(TASKS, 2, records[0].offset, records)
        self.acked = False

    def ack(self) -> None:
        self.acked = True


ROWS = 6000  # of a task whose answer takes 0.4 MB
UNREADABLE = b'{"v":1'.ljust(400_000, b" ")


def chunk_of(pattern: str) -> Event:
    """B: a task with many rows, S: one with a single row, U: what cannot be read."""
    records = []
    for offset, letter in enumerate(pattern, start=7):
        task_id = new_id().encode()
        rows = b",".join([b"[5.1,3.5,1.4,0.2]"] * (ROWS if letter == "B" else 1))
        value = b'{"v":1,"id":"%s","X":[%s],"at":1.0}' % (task_id, rows)
        trace = b"00-%s-%s-00" % (task_id.replace(b"-", b""), task_id.replace(b"-", b"")[:16])
        headers: list[tuple[str, bytes | None]] = [(TRACE_HEADER, trace)] if letter != "S" else []
        records.append(Record(offset, 0, task_id, UNREADABLE if letter == "U" else value, headers))
    return Event(records)


PATTERNS = ["BBBBB", "BUBUBUB", "UUUUB", "SUS", "UUU", "SBSSUBSBUUBS"]


async def handle(artifact: Any, event: Event) -> tuple[Broker, list[int]]:
    """Answer a chunk; returns after how many of its deliveries it was acknowledged."""
    broker = Broker()
    inference = Inference(config.load({"PETAL_MODEL": str(artifact)}))
    await inference.open("a-cluster")
    await inference.handle(event, Connected(broker))
    acked = []
    for done, reply in enumerate(broker.replies, start=1):
        await asyncio.sleep(0.01)
        assert not event.acked
        reply.set_result(None)
        if done == len(broker.replies):
            async with asyncio.timeout(10):
                while not event.acked:
                    await asyncio.sleep(0.001)
        acked += [done] * event.acked
    await broker.stop()
    return broker, acked


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_record_of_a_chunk_has_its_end_and_the_ack_follows_the_last_delivery(
    artifact: Any, loaded: Loaded, pattern: str
) -> None:
    event = chunk_of(pattern)
    broker, acked = asyncio.run(handle(artifact, event))
    results = [r for batch in broker.sent(RESULTS, 2) for r in batch]
    letters = [r for batch in broker.sent(DEAD_LETTERS, 0) for r in batch]
    records = event.value.records
    readable = [r for r in records if r.value != UNREADABLE]
    assert [(r.key, r.headers) for r in results] == [(r.key, r.headers) for r in readable]
    decoded: list[Result] = [decode_result(r.value or b"") for r in results]
    assert [r.task.offset for r in decoded] == [r.offset for r in readable]
    assert {r.error for r in decoded} <= {None}
    assert [(r.key, r.value, dict(r.headers)["petal-offset"]) for r in letters] == [
        (r.key, r.value, b"%d" % r.offset) for r in records if r.value == UNREADABLE
    ]
    assert acked == [len(broker.replies)]
    if pattern.count("B") > 2:
        assert len(broker.batches[RESULTS, 2]) > 1
    if pattern.count("U") > 2:
        assert len(broker.batches[DEAD_LETTERS, 0]) > 1
