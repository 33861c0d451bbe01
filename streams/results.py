"""The reader of `results`, and who waits for which of them."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from infra.config import Settings
from streams.events import Result, decode_result
from streams.holes import Holes, find_hole
from streams.topics import RESULTS

REQUEST_TIMEOUT_MS = 10_000


class Results:
    """Hands each result to who expects it. Nothing is read before `open`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[bytes, list[asyncio.Future[Result]]] = {}
        self._holes = Holes()
        self._next: dict[TopicPartition, int] = {}  # the offset to read, where one was read
        self._short = Holes()  # logs that end before what was read of them
        self._given_up = False
        self.hole_seconds = 0.0  # that a hole in a log must last to be one

    async def open(self, from_beginning: bool) -> None:
        """Read on from the end of the log, or all of it, again if it was read before.

        Returns when the positions are known; raises KafkaError, OSError or TimeoutError.
        """
        if self._consumer is None:
            # In no one's context: what is started here outlives who happened to ask first.
            connecting = self._connect(from_beginning)
            self._consumer = await asyncio.create_task(connecting, context=Context())
            reading = self._read(self._consumer)
            self._reading = asyncio.create_task(reading, context=Context())
        elif from_beginning:
            await self._seek(self._consumer, from_beginning)

    def give_up(self) -> None:
        """Let nobody wait any longer, now or later: TimeoutError at once."""
        self._given_up = True
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(TimeoutError())

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

    @contextmanager
    def expected(self, task_id: str) -> Iterator[asyncio.Future[Result]]:
        """The result of a task, as soon as it is read."""
        key = task_id.encode()
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        if self._given_up:
            future.set_exception(TimeoutError())
        try:
            yield future
        finally:
            self._forget(key, future)

    def _forget(self, key: bytes, future: asyncio.Future[Result]) -> None:
        futures = self._waiting.get(key, [])
        if future in futures:
            futures.remove(future)
        if not futures:
            self._waiting.pop(key, None)
        if not future.cancel() and not future.cancelled():
            future.exception()  # or asyncio would log one that nobody awaited

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
                await consumer.position(partition)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                fetched = await consumer.getmany(timeout_ms=1000)
                if self.hole_seconds:
                    await self._look_for_short_logs(consumer)
            except KafkaError:
                await asyncio.sleep(0.2)  # aiokafka reconnects by itself
                continue
            for tp, records in fetched.items():
                for record in records:
                    if record.key in self._waiting:
                        self._deliver(record.key, record.value)
                if self.hole_seconds:
                    self._read_hole_again(consumer, tp, records)

    async def _look_for_short_logs(self, consumer: AIOKafkaConsumer) -> None:
        """Read a log from its beginning that ends before what was read of it: it was made again.

        Apache Kafka says so itself; the embedded broker just has nothing more.
        """
        for tp in consumer.assignment():
            read, end = await consumer.position(tp), consumer.highwater(tp)
            if end is None or end >= read:
                self._short.forget(tp)
            elif self._short.is_real(tp, read, time.monotonic(), self.hole_seconds):
                self._short.forget(tp)
                self._next.pop(tp, None)
                await consumer.seek_to_beginning(tp)

    def _read_hole_again(
        self, consumer: AIOKafkaConsumer, tp: TopicPartition, records: Sequence[Any]
    ) -> None:
        """Go back to a record that the embedded broker did not show yet; see `streams.holes`."""
        first = min(records[0].offset, self._next.get(tp, records[0].offset))
        before = find_hole(records, first)
        hole = first if not before else records[before - 1].offset + 1
        if before is None or self._holes.is_real(tp, hole, time.monotonic(), self.hole_seconds):
            self._next[tp] = records[-1].offset + 1
        else:
            self._next[tp] = hole
            consumer.seek(tp, hole)

    def _deliver(self, key: bytes, value: bytes | None) -> None:
        try:
            result = decode_result(value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # no answer; the sink keeps it as unreadable
        if result.id.encode() != key:
            return
        for future in self._waiting.pop(key):
            if not future.done():
                future.set_result(result)
