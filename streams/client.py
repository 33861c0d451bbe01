"""Ask the pipeline: publish tasks, await their results. What `api/` and `cli/` use; no Faust.

`submit` returns when the broker has acknowledged the task. `ask` awaits that task's own
result: the reader of `results` has its positions before the task is published, so an answer
cannot slip by, and answers are told apart by task id alone.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, NamedTuple, Self

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, OutOfOrderSequenceNumber

from infra import broker
from infra.config import Settings
from streams import events
from streams.events import Result, TableTask, decode_result, new_id
from streams.holes import EMBEDDED_SECONDS, Holes, find_hole
from streams.topics import MAX_TASK_BYTES, RESULTS, TASKS, TRACE_HEADER

REQUEST_TIMEOUT_MS = 10_000

# The W3C trace that tasks published in this context belong to; the worker copies it to results.
TRACEPARENT: ContextVar[bytes | None] = ContextVar("traceparent", default=None)


class ClientError(Exception):
    """The pipeline could not be asked. `str()` is a sentence for people."""


class Unavailable(ClientError):
    """No broker; nothing was published."""


class Unknown(ClientError):
    """The broker did not confirm in time: the task may be published or not; same id, try again."""


class TooLarge(ClientError):
    """The task does not fit into one message; nothing was published."""


class ResultTimeout(ClientError):
    """No result within the time-out; the task is accepted and will be answered."""

    def __init__(self, task_id: str, timeout: float) -> None:
        super().__init__(f"no result within {timeout:g} s for task {task_id}")
        self.task_id = task_id


class IdConflict(ClientError):
    """The id was another task's; that one's answer stays."""


class Submitted(NamedTuple):
    """An accepted task and where it stands in `tasks`."""

    id: str
    partition: int
    offset: int


def encode_task(X: Sequence[Sequence[Any]], task_id: str, model: str | None = None) -> bytes:
    """A task's message; `X` has shape (rows, features). Raises TooLarge."""
    task = TableTask(v=1, id=task_id, X=[list(r) for r in X], at=time.time(), model=model)
    value = events.encode(task)
    if len(value) > MAX_TASK_BYTES:
        raise TooLarge(f"the task has {len(value):,} bytes, the limit is {MAX_TASK_BYTES:,}")
    return value


class Client:
    """A producer of tasks and, from the first `ask` or `wait` on, a reader of results.

    Use as an async context manager. Safe for many concurrent calls in one event loop.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._waiting: dict[bytes, list[asyncio.Future[Result]]] = {}
        self._embedded = False
        self._holes = Holes()
        self._next: dict[TopicPartition, int] = {}  # the offset to read, where one was read

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, wait: float | None = None) -> None:
        """Connect the producer; raises Unavailable after `wait` seconds without a broker."""
        try:
            self._embedded = broker.is_embedded(await broker.prepare(self._settings, wait))
            self._producer = await self._new_producer()
        except (broker.BrokerUnavailable, broker.TopicMismatch, KafkaError, OSError) as e:
            raise Unavailable(str(e)) from e

    async def _new_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.bootstrap,
            acks="all",
            linger_ms=0,
            enable_idempotence=self._settings.producer_idempotence,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_request_size=MAX_TASK_BYTES + 4096,
        )
        await _start(producer)
        return producer

    async def stop(self) -> None:
        """Stop reading and disconnect. Waiting calls are cancelled."""
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError, ClientError):
                await self._reader
        for futures in self._waiting.values():
            for future in futures:
                future.cancel()
        for part in (self._consumer, self._producer):
            if part is not None:
                await _stop(part)

    async def submit(
        self, X: Sequence[Sequence[Any]], task_id: str | None = None, model: str | None = None
    ) -> Submitted:
        """Publish one task and await the broker's acknowledgement.

        `X` has shape (rows, features). Raises TooLarge, or Unknown if the broker does not
        confirm within the setting `delivery_timeout`: then submit again with the same id.
        """
        task_id = task_id or new_id()
        value = encode_task(X, task_id, model)
        if self._producer is None:
            raise Unavailable("the client is not started")
        try:
            async with asyncio.timeout(self._settings.delivery_timeout):
                sent = await self._send(self._producer, task_id.encode(), value)
        except MessageSizeTooLargeError as e:
            raise TooLarge(f"the broker refuses a task of {len(value):,} bytes") from e
        except (KafkaError, TimeoutError, OSError) as e:
            raise Unknown(f"the broker did not confirm task {task_id} ({type(e).__name__})") from e
        return Submitted(task_id, sent.partition, sent.offset)

    async def _send(self, producer: AIOKafkaProducer, key: bytes, value: bytes) -> Any:
        """Write one task, with another producer if the broker will not have this one any more.

        Where a broker was away for so long that a batch expired, aiokafka 0.14.0 has used up the
        batch's sequence numbers; whatever it sends afterwards is refused, for ever.
        """
        trace = TRACEPARENT.get()
        headers = None if trace is None else [(TRACE_HEADER, trace)]
        try:
            return await producer.send_and_wait(TASKS, value, key=key, headers=headers)
        except OutOfOrderSequenceNumber:
            successor = await self._successor(producer)
            return await successor.send_and_wait(TASKS, value, key=key, headers=headers)

    async def _successor(self, producer: AIOKafkaProducer) -> Any:
        """The producer in place of one that is spent; of many calls that fail one makes it."""
        async with self._starting:
            if self._producer is producer:
                self._producer = await self._new_producer()
                await _stop(producer)
            return self._producer

    async def ask(
        self,
        X: Sequence[Sequence[Any]],
        timeout: float,
        task_id: str | None = None,
        model: str | None = None,
    ) -> Result:
        """Publish one task and await its own result; raises ResultTimeout after `timeout` s.

        Raises IdConflict if the answer is to another task of this id.
        """
        await self.tail()
        task_id = task_id or new_id()
        future = self._expect(task_id)
        try:
            await self.submit(X, task_id, model)
        except BaseException:
            self._forget(task_id, future)
            raise
        result = await self._await(task_id, future, timeout)
        if result.input not in (None, events.input_digest(X)):
            raise IdConflict(f"the id {task_id} is another task's; nothing of it is changed")
        return result

    async def wait(self, task_id: str, timeout: float) -> Result:
        """Await the result of a task that was published earlier, by anyone.

        Reads `results` from its beginning, because the answer may be there already.
        Raises ResultTimeout after `timeout` seconds.
        """
        await self.tail(from_beginning=True)
        return await self._await(task_id, self._expect(task_id), timeout)

    async def tail(self, from_beginning: bool = False) -> None:
        """Have a reader of `results` with known positions, at the end of the log by default."""
        async with self._starting:
            if self._consumer is None:
                consumer = await self._open_reader()
                try:
                    await self._position(consumer, from_beginning)
                except BaseException:  # half a reader would look like one that nobody answers
                    await consumer.stop()
                    raise
                self._consumer = consumer
                self._reader = asyncio.create_task(self._read(consumer))
            elif from_beginning:
                await self._position(self._consumer, from_beginning)

    async def _open_reader(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=self._settings.fetch_wait_ms,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            await _start(consumer)
            consumer.assign([TopicPartition(RESULTS, p) for p in range(self._settings.partitions)])
        except (KafkaError, OSError, TimeoutError) as e:
            raise Unavailable(f"cannot read results: {e!r}") from e
        return consumer

    async def _position(self, consumer: AIOKafkaConsumer, from_beginning: bool) -> None:
        """Seek and know the positions. At the end, the embedded broker may place the reader a
        batch early; that only shows it answers nobody waits for."""
        self._next.clear()
        seek = consumer.seek_to_beginning if from_beginning else consumer.seek_to_end
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_MS / 1000):
                await seek()
                for partition in consumer.assignment():
                    await consumer.position(partition)
        except (KafkaError, OSError, TimeoutError) as e:
            raise Unavailable(f"cannot read results: {e!r}") from e

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                fetched = await consumer.getmany(timeout_ms=1000)
            except KafkaError:
                await asyncio.sleep(0.2)  # aiokafka reconnects by itself
                continue
            for tp, records in fetched.items():
                for record in records:
                    if record.key in self._waiting:
                        self._deliver(record.key, record.value)
                if self._embedded:
                    self._read_hole_again(consumer, tp, records)

    def _read_hole_again(
        self, consumer: AIOKafkaConsumer, tp: TopicPartition, records: Sequence[Any]
    ) -> None:
        """Go back to a record that the embedded broker did not show yet; see `streams.holes`."""
        first = min(records[0].offset, self._next.get(tp, records[0].offset))
        before = find_hole(records, first)
        hole = first if not before else records[before - 1].offset + 1
        if before is None or self._holes.is_real(tp, hole, time.monotonic(), EMBEDDED_SECONDS):
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

    def _expect(self, task_id: str) -> asyncio.Future[Result]:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(task_id.encode(), []).append(future)
        return future

    def _forget(self, task_id: str, future: asyncio.Future[Result]) -> None:
        futures = self._waiting.get(task_id.encode(), [])
        if future in futures:
            futures.remove(future)
        if not futures:
            self._waiting.pop(task_id.encode(), None)

    async def _await(self, task_id: str, future: asyncio.Future[Result], timeout: float) -> Result:
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError as e:
            raise ResultTimeout(task_id, timeout) from e
        finally:
            self._forget(task_id, future)


async def _stop(part: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    with suppress(TimeoutError, KafkaError, OSError):
        await asyncio.wait_for(part.stop(), REQUEST_TIMEOUT_MS / 1000)


async def _start(part: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    try:
        await asyncio.wait_for(part.start(), REQUEST_TIMEOUT_MS / 1000)
    except BaseException:
        await part.stop()
        raise
