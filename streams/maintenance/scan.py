"""Read a whole topic, from its beginning to where it ends now, outside any consumer group."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.broker.admin import pipeline_topics
from infra.config import Settings
from infra.topics import MAX_RESULT_BYTES
from streams.records import Chunk

FETCH_SECONDS = 1.0


class Log:
    """One topic. `starts` and `ends`: of each partition the first offset and the one after
    the last, as they were when it was opened."""

    def __init__(self, consumer: AIOKafkaConsumer, starts: dict[int, int]) -> None:
        self._consumer = consumer
        self.starts = starts
        self.ends: dict[int, int] = {}

    @property
    def records(self) -> int:
        """How many records there are at most; exact where the log has no holes."""
        return sum(self.ends.values()) - sum(self.starts.values())

    async def find_ends(self) -> None:
        """Learn the high watermarks. They come with a fetch: the embedded broker's answer to
        `end_offsets` is short by up to a batch."""
        topic = next(iter(self._consumer.assignment())).topic
        while len(self.ends) < len(self.starts):
            await self._consumer.getmany(timeout_ms=int(FETCH_SECONDS * 100), max_records=1)
            for partition in self.starts:
                end = self._consumer.highwater(TopicPartition(topic, partition))
                if end is not None:
                    self.ends[partition] = end
        await self._consumer.seek_to_beginning()

    async def chunks(self) -> AsyncIterator[Chunk]:
        """The records up to `ends`, in offset order within each partition."""
        read = dict(self.starts)
        while any(read[p] < self.ends[p] for p in read):
            fetched: Mapping[TopicPartition, list[Any]] = await self._consumer.getmany(
                timeout_ms=int(FETCH_SECONDS * 1000), max_records=10_000
            )
            for tp, records in fetched.items():
                end = self.ends[tp.partition]
                wanted = [r for r in records if r.offset < end]
                if wanted:
                    yield Chunk(tp.topic, tp.partition, read[tp.partition], wanted)
                    read[tp.partition] = wanted[-1].offset + 1
                if len(wanted) < len(records):
                    read[tp.partition] = end
            for tp in self._consumer.assignment():  # the last offsets may be holes
                position = await self._consumer.position(tp)
                if position >= self.ends[tp.partition]:
                    read[tp.partition] = self.ends[tp.partition]


@asynccontextmanager
async def open_log(settings: Settings, topic: str) -> AsyncIterator[Log]:
    """A topic with its first offsets and ends known. The broker must be there."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=settings.fetch_wait_ms,
        max_partition_fetch_bytes=MAX_RESULT_BYTES,
    )
    await consumer.start()
    try:
        partitions = _partitions(settings, topic)
        consumer.assign(partitions)
        starts = await consumer.beginning_offsets(partitions)
        log = Log(consumer, {tp.partition: offset for tp, offset in starts.items()})
        await log.find_ends()
        yield log
    finally:
        await consumer.stop()


def _partitions(settings: Settings, topic: str) -> list[TopicPartition]:
    """All partitions of one of the pipeline's topics; `prepare` holds the broker to the count."""
    [count] = [t.partitions for t in pipeline_topics(settings) if t.name == topic]
    return [TopicPartition(topic, p) for p in range(count)]
