"""The reader of `results`, which delivers each result to the callers that wait for it."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from infra.broker import connection
from infra.broker.fetcher import checked_end
from infra.broker.log_id import LogIds, is_same_log
from infra.config import Settings
from streams.codec import DECODE_ERRORS, decode_result
from streams.errors import UnreadableResult
from streams.events import Result
from streams.records import OffsetPolicy

POLL_MS = 500  # between two checks for a replaced log
RETRY_SECONDS = 0.2


class Listener:
    """Delivers results to the callers that expect them. Nothing is read before `open`."""

    def __init__(self, settings: Settings, policy: OffsetPolicy) -> None:
        self._settings = settings
        self._topic = settings.names.results
        self._policy = policy
        self._consumer: AIOKafkaConsumer | None = None
        self._reading: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._waiting: dict[bytes, list[asyncio.Future[Result | None]]] = {}
        self._given_up = False
        self._next: dict[TopicPartition, int] = {}  # the offset to read
        self._logs = LogIds(settings)
        self._log = ""  # to which the offsets belong
        # Of awaited tasks, by partition: why a record of theirs is not a result.
        self._unreadable: dict[TopicPartition, dict[bytes, str]] = {}

    async def open(self, from_beginning: bool) -> None:
        """Read the log from its end or its beginning on; the latter also if it was read before.

        Returns when the positions are known; raises KafkaError, OSError or TimeoutError.
        """
        if self._consumer is None:
            # The connection outlives the call that needs it first. In that call's context it
            # would go on to log under that request's id.
            connecting = asyncio.create_task(self._connect(from_beginning), context=Context())
            self._consumer = await connecting
            self._reading = asyncio.create_task(self._read(self._consumer), context=Context())
            self._watching = asyncio.create_task(self._logs.watch(), context=Context())
        elif from_beginning:
            await self._seek(self._consumer, from_beginning)

    async def close(self) -> None:
        """Stop reading and disconnect. Waiting callers are cancelled."""
        for task in (self._reading, self._watching):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        for futures in self._waiting.values():
            for future in futures:
                future.cancel()
        await connection.stop(self._consumer)
        await self._logs.aclose()

    def give_up(self) -> None:
        """Deliver None to all callers, present and future; to be called in the event loop."""
        self._given_up = True
        for futures in self._waiting.values():
            _deliver(futures, None)

    @contextmanager
    def expected(self, task_id: str) -> Iterator[asyncio.Future[Result | None]]:
        """The result of a task, as soon as it is read; None after `give_up`.

        The future raises UnreadableResult if the task's only record is not a result.
        """
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
        consumer = connection.new_consumer(self._settings)
        await connection.start(consumer)
        try:
            consumer.assign(
                [TopicPartition(self._topic, p) for p in range(self._settings.partitions)]
            )
            await self._seek(consumer, from_beginning)
        except BaseException:  # half a reader would look like a pipeline that does not answer
            await connection.stop(consumer)
            raise
        return consumer

    async def _seek(self, consumer: AIOKafkaConsumer, from_beginning: bool) -> None:
        """Seek and learn the positions.

        At the end, the embedded broker may place the reader a batch early. Then it only reads
        results that no caller waits for.
        """
        self._next.clear()
        seek = consumer.seek_to_beginning if from_beginning else consumer.seek_to_end
        async with asyncio.timeout(connection.REQUEST_SECONDS):
            self._log = await self._logs.confirm(self._topic)
            await seek()
            for partition in consumer.assignment():
                self._next[partition] = await consumer.position(partition)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                await self._read_new_log(consumer)
                fetched = await consumer.getmany(timeout_ms=POLL_MS)
                for tp, records in fetched.items():
                    self._take(consumer, tp, records)
                await self._read_replaced_logs(consumer)
            except (KafkaError, TimeoutError):
                await asyncio.sleep(RETRY_SECONDS)  # aiokafka reconnects by itself

    def _take(self, consumer: AIOKafkaConsumer, tp: TopicPartition, records: Sequence[Any]) -> None:
        """Deliver all records at once, and go back to those that are late."""
        for record in records:
            if record.key in self._waiting:
                self._decode(tp, record.key, record.value)
        expected = self._next.get(tp, records[0].offset)
        reading = self._policy.read(tp, expected, records, consumer.highwater(tp))
        self._next[tp] = reading.next
        if reading.seek is not None:
            consumer.seek(tp, reading.seek)
        end = consumer.highwater(tp)
        if tp in self._unreadable and (end is None or reading.next >= end):
            self._deliver_unreadable(self._unreadable.pop(tp))

    def _deliver_unreadable(self, reasons: dict[bytes, str]) -> None:
        """End the waits for results that cannot be read; no readable ones followed in the log."""
        for key, reason in reasons.items():
            error = UnreadableResult(key.decode(), reason)
            for future in self._waiting.pop(key, []):
                if not future.done():
                    future.set_exception(error)

    async def _read_new_log(self, consumer: AIOKafkaConsumer) -> None:
        """Read the topic from its beginning if it was recreated since the last look."""
        known = self._logs.known(self._topic)
        if is_same_log(known, self._log):
            return
        await consumer._client.force_metadata_update()
        self._policy.clear()
        await self._seek(consumer, from_beginning=True)

    async def _read_replaced_logs(self, consumer: AIOKafkaConsumer) -> None:
        """Read replaced logs from their beginning.

        The embedded broker, restarted, answers nothing at an offset above its log's end. Apache
        Kafka returns an error there, and aiokafka goes back by itself.
        """
        for tp, position in list(self._next.items()):
            answered_ms = consumer.last_poll_timestamp(tp)
            if answered_ms is None:
                continue
            end = await checked_end(consumer, tp, position)
            if self._policy.is_replaced(tp, position, end, answered_ms / 1000):
                self._next[tp] = 0
                await consumer.seek_to_beginning(tp)

    def _decode(self, tp: TopicPartition, key: bytes, value: bytes | None) -> None:
        try:
            result = decode_result(value or b"")
        except DECODE_ERRORS as e:  # the sink keeps it as unreadable
            self._unreadable.setdefault(tp, {})[key] = str(e)[:200]
            return
        if result.id.encode() == key:
            _deliver(self._waiting.pop(key), result)


def _deliver(futures: Iterable[asyncio.Future[Result | None]], result: Result | None) -> None:
    for future in futures:
        if not future.done():
            future.set_result(result)
