"""The reader of `results`, and who waits for which of them."""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from infra.config import Settings
from infra.topics import RESULTS
from streams.codec import decode_result
from streams.events import Result
from streams.records import Holes, find_hole

REQUEST_TIMEOUT_MS = 10_000
POLL_MS = 500  # between two looks for a log that was made again

logger = logging.getLogger(__name__)


class Results:
    """Hands each result to who expects it. Nothing is read before `open`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[bytes, list[asyncio.Future[Result | None]]] = {}
        self._given_up = False
        self._holes = Holes()
        self._ends = Holes()  # of logs, below what was read of them
        self._next: dict[TopicPartition, int] = {}  # the offset to read
        self.hole_seconds = 0.0  # that a hole in a log, or such an end, must last to be one

    async def open(self, from_beginning: bool) -> None:
        """Read on from the end of the log, or all of it, again if it was read before.

        Returns when the positions are known; raises KafkaError, OSError or TimeoutError.
        """
        if self._consumer is None:
            # The connection outlives the call that needs it first. In that one's context it would
            # go on to log under its request's id.
            connecting = asyncio.create_task(self._connect(from_beginning), context=Context())
            self._consumer = await connecting
            self._reading = asyncio.create_task(self._read(self._consumer), context=Context())
        elif from_beginning:
            await self._seek(self._consumer, from_beginning)

    async def close(self) -> None:
        """Stop reading and disconnect. Who waits is cancelled."""
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading
        for futures in self._waiting.values():
            for future in futures:
                future.cancel()
        if self._consumer is not None:
            with suppress(TimeoutError, KafkaError, OSError):
                await asyncio.wait_for(self._consumer.stop(), REQUEST_TIMEOUT_MS / 1000)

    def give_up(self) -> None:
        """Tell None to whoever waits, and to whoever will; to be called in the event loop."""
        self._given_up = True
        for futures in self._waiting.values():
            _tell(futures, None)

    @contextmanager
    def expected(self, task_id: str) -> Iterator[asyncio.Future[Result | None]]:
        """The result of a task, as soon as it is read; None after `give_up`."""
        key = task_id.encode()
        future: asyncio.Future[Result | None] = asyncio.get_running_loop().create_future()
        if self._given_up:
            future.set_result(None)
        self._waiting.setdefault(key, []).append(future)
        try:
            yield future
        finally:
            self._forget(key, future)

    def _forget(self, key: bytes, future: asyncio.Future[Result | None]) -> None:
        futures = self._waiting.get(key, [])
        if future in futures:
            futures.remove(future)
        if not futures:
            self._waiting.pop(key, None)

    async def _connect(self, from_beginning: bool) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=self._settings.fetch_wait_ms,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            await asyncio.wait_for(consumer.start(), REQUEST_TIMEOUT_MS / 1000)
            consumer.assign([TopicPartition(RESULTS, p) for p in range(self._settings.partitions)])
            await self._seek(consumer, from_beginning)
        except BaseException:  # half a reader would look like one that nobody answers
            await consumer.stop()
            raise
        return consumer

    async def _seek(self, consumer: AIOKafkaConsumer, from_beginning: bool) -> None:
        """Seek and know the positions. At the end, the embedded broker may place the reader a
        batch early; that only shows it answers nobody waits for."""
        self._next.clear()
        seek = consumer.seek_to_beginning if from_beginning else consumer.seek_to_end
        async with asyncio.timeout(REQUEST_TIMEOUT_MS / 1000):
            await seek()
            for partition in consumer.assignment():
                self._next[partition] = await consumer.position(partition)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                fetched = await consumer.getmany(timeout_ms=POLL_MS)
                for tp, records in fetched.items():
                    self._take(consumer, tp, records)
                if self.hole_seconds:
                    await self._read_new_logs(consumer)
            except KafkaError:
                await asyncio.sleep(0.2)  # aiokafka reconnects by itself

    def _take(self, consumer: AIOKafkaConsumer, tp: TopicPartition, records: Sequence[Any]) -> None:
        for record in records:
            if record.key in self._waiting:
                self._deliver(record.key, record.value)
        if self.hole_seconds:
            self._read_hole_again(consumer, tp, records)

    def _read_hole_again(
        self, consumer: AIOKafkaConsumer, tp: TopicPartition, records: Sequence[Any]
    ) -> None:
        """Go back to a record that the embedded broker did not show yet; see `streams.records`."""
        first = min(records[0].offset, self._next.get(tp, records[0].offset))
        before = find_hole(records, first)
        hole = first if not before else records[before - 1].offset + 1
        if before is None or self._holes.is_real(tp, hole, time.monotonic(), self.hole_seconds):
            self._next[tp] = records[-1].offset + 1
        else:
            self._next[tp] = hole
            consumer.seek(tp, hole)

    async def _read_new_logs(self, consumer: AIOKafkaConsumer) -> None:
        """Read from their beginning the logs that end below what was read of them.

        The embedded broker, started again, answers nothing there. Apache Kafka tells, and
        aiokafka goes back by itself. Times are those of answers, for silence proves nothing.
        """
        for tp, position in list(self._next.items()):
            end, answered_ms = consumer.highwater(tp), consumer.last_poll_timestamp(tp)
            if end is None or end >= position:
                self._ends.forget(tp)
            elif self._ends.is_real(tp, position, answered_ms / 1000, self.hole_seconds):
                logger.warning(
                    "%s[%s] ends before offset %s: the topic was made again; reading it from its "
                    "beginning", tp.topic, tp.partition, position,
                )  # fmt: skip
                self._next[tp] = 0
                await consumer.seek_to_beginning(tp)

    def _deliver(self, key: bytes, value: bytes | None) -> None:
        try:
            result = decode_result(value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # no answer; the sink keeps it as unreadable
        if result.id.encode() != key:
            return
        _tell(self._waiting.pop(key), result)


def _tell(futures: Iterable[asyncio.Future[Result | None]], result: Result | None) -> None:
    for future in futures:
        if not future.done():
            future.set_result(result)
