"""Read a whole topic, from its beginning to its present end, outside any consumer group."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.broker import connection
from infra.broker.access import Needs
from infra.broker.admin import pipeline_topics, prepare
from infra.broker.batches import undecodable
from infra.broker.fetcher import readable_end
from infra.broker.log_id import LogIds, is_same_log
from infra.config import Settings
from infra.errors import BrokerUnavailable
from streams.errors import LogReplaced
from streams.records import Chunk, OffsetPolicy, Partition

FETCH_SECONDS = 1.0
MAX_FETCH_RECORDS = 10_000

Progress = Callable[[int, int], None]  # records read, records in all


async def unchecked() -> None:
    """Of a log that is not checked."""


def refuse_replaced(partition: Partition, expected: int) -> None:
    """Raise LogReplaced: the bounds of the old log are not those of the new one."""
    raise LogReplaced(
        f"{partition.topic}[{partition.partition}] ends before offset {expected}: the topic was "
        "recreated while it was read; start again"
    )


class Log:
    """One topic.

    `starts` and `ends`: the first offset of each partition, and the one after its last that can be
    read, at the time when the log was opened. `undecodable`: the places, such as results[0]:5-9,
    of the batches among the records read so far that cannot be decoded. `id`: see
    `infra.broker.log_id`. `check` raises LogReplaced if the topic has another log by now.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        policy: OffsetPolicy,
        starts: dict[int, int],
        log_id: str = "",
        check: Callable[[], Awaitable[None]] = unchecked,
        silence: float = connection.JOB_REQUEST_SECONDS,
    ) -> None:
        self._consumer = consumer
        self._silence = silence
        self._policy = policy
        self._next = dict(starts)
        self._check_id = check
        self.id = log_id
        self.starts = starts
        self.ends: dict[int, int] = {}
        self.undecodable: list[str] = []

    @property
    def records(self) -> int:
        """The number of records at most; exact if the log has no gaps."""
        return sum(self.ends.values()) - sum(self.starts.values())

    async def find_ends(self) -> None:
        """Learn the ends from fetches; raises BrokerUnavailable if they do not come in time.

        The embedded broker's answer to `end_offsets` is short by up to a batch.
        """
        topic = next(iter(self._consumer.assignment())).topic
        deadline = time.monotonic() + self._silence
        while len(self.ends) < len(self.starts):
            if time.monotonic() > deadline:
                raise self._silent(topic)
            await self._check_id()
            await self._consumer.getmany(timeout_ms=int(FETCH_SECONDS * 100), max_records=1)
            for partition in self.starts:
                end = readable_end(self._consumer, TopicPartition(topic, partition))
                if end is not None:
                    self.ends[partition] = end
        await self._consumer.seek_to_beginning()

    def skip_to_last(self, records: int) -> None:
        """Read only the last offsets of each partition; to be called before `chunks`."""
        for tp in self._consumer.assignment():
            first = max(self._next[tp.partition], self.ends[tp.partition] - records)
            self._next[tp.partition] = first
            self._consumer.seek(tp, first)

    def _silent(self, topic: str) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"the broker has not answered for {self._silence:g} s while {topic} was read; "
            "start again when it runs"
        )

    async def chunks(self) -> AsyncIterator[Chunk]:
        """The records up to `ends`, in offset order within each partition.

        Raises LogReplaced if the topic is recreated meanwhile, and BrokerUnavailable if the broker
        falls silent.
        """
        heard, waited = self._answers(), 0.0
        while any(self._next[p] < end for p, end in self.ends.items()):
            begun = time.monotonic()
            fetched: Mapping[TopicPartition, list[Any]] = await self._consumer.getmany(
                timeout_ms=int(FETCH_SECONDS * 1000), max_records=MAX_FETCH_RECORDS
            )
            waited += time.monotonic() - begun
            if fetched or self._answers() != heard:
                heard, waited = self._answers(), 0.0
            elif waited > self._silence:
                raise self._silent(next(iter(heard)).topic)
            for tp, records in fetched.items():
                if chunk := self._take(tp, records):
                    for batch in undecodable(chunk.records):
                        place = f"{tp.topic}[{tp.partition}]:{batch.first}-{batch.last}"
                        self.undecodable.append(place)
                    yield chunk
            for tp in self._consumer.assignment():
                await self._check(tp)
            await self._check_id()
        await self._check_id()  # nothing was read, or while its last chunk was handled

    def _answers(self) -> dict[TopicPartition, int | None]:
        """When the broker last answered, for each partition that is not read to its end."""
        return {
            tp: self._consumer.last_poll_timestamp(tp)
            for tp in self._consumer.assignment()
            if self._next[tp.partition] < self.ends[tp.partition]
        }

    def _take(self, tp: TopicPartition, records: list[Any]) -> Chunk | None:
        """The records below the end; those that are late are fetched again."""
        first, end = self._next[tp.partition], self.ends[tp.partition]
        if first >= end:
            return None
        reading = self._policy.read(tp, first, records, self._consumer.highwater(tp))
        wanted = [r for r in reading.records if r.offset < end]
        self._next[tp.partition] = min(end, reading.next)
        if reading.seek is not None:
            self._consumer.seek(tp, reading.seek)
        return Chunk(tp.topic, tp.partition, first, wanted) if wanted else None

    async def _check(self, tp: TopicPartition) -> None:
        """Pass over a gap at the end, and notice a replaced log."""
        end, answered_ms = self._consumer.highwater(tp), self._consumer.last_poll_timestamp(tp)
        if answered_ms is not None:
            self._policy.is_replaced(tp, self._next[tp.partition], end, answered_ms / 1000)
        if await self._consumer.position(tp) >= self.ends[tp.partition]:
            self._next[tp.partition] = self.ends[tp.partition]


@asynccontextmanager
async def open_log(settings: Settings, topic: str) -> AsyncIterator[Log]:
    """One of the pipeline's topics; raises BrokerUnavailable, AccessRefused or TopicMismatch."""
    policy = OffsetPolicy(refuse_replaced)
    [name] = [n for n, called in settings.names._asdict().items() if called == topic]
    needs = Needs(read=(name,))
    policy.learn(await prepare(settings, needs=needs))
    consumer = connection.new_consumer(settings, connection.JOB_REQUEST_SECONDS)
    connected = connection.connected(consumer, settings, needs)
    async with connected, aclosing(LogIds(settings)) as logs:
        log_id = await _confirm(settings, logs, topic)

        async def check() -> None:
            if not is_same_log(await _confirm(settings, logs, topic), log_id):
                raise LogReplaced(f"{topic} was recreated while it was read; start again")

        partitions = _partitions(settings, topic)
        consumer.assign(partitions)
        found = await consumer.beginning_offsets(partitions)
        starts = {tp.partition: offset for tp, offset in found.items()}
        log = Log(consumer, policy, starts, log_id, check)
        await log.find_ends()
        yield log


async def _confirm(settings: Settings, logs: LogIds, topic: str) -> str:
    try:
        async with asyncio.timeout(connection.JOB_REQUEST_SECONDS):
            return await logs.confirm(topic)
    except TimeoutError as e:
        raise BrokerUnavailable(
            f"the broker at {settings.bootstrap} is away, or has no topic {topic!r} any more"
        ) from e


def _partitions(settings: Settings, topic: str) -> list[TopicPartition]:
    """All partitions of one of the pipeline's topics; `prepare` has checked their number."""
    [count] = [t.partitions for t in pipeline_topics(settings) if t.name == topic]
    return [TopicPartition(topic, p) for p in range(count)]
