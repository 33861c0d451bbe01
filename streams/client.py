"""The client of the pipeline, for `api/` and `cli/`: it publishes tasks and awaits their results.

`submit` returns when the broker has acknowledged the task. `ask` awaits that task's own result,
which it knows by the task id. It cannot miss the result, because the reader of `results` has its
positions before the task is published. Nothing here needs Faust.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from contextvars import Context
from itertools import chain
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, OutOfOrderSequenceNumber

from infra.broker import access, admin, connection
from infra.broker.access import CLIENT
from infra.broker.security.login import login_of
from infra.config import Settings
from infra.errors import AccessRefused, BrokerUnavailable, TopicMismatch
from infra.topics import MAX_TASK_BYTES, OVERHEAD_BYTES, TRACE_HEADER
from infra.tracing import TRACEPARENT
from model.errors import InvalidRow
from streams import codec
from streams.errors import (
    ClientError,
    IdConflict,
    PipelineRefused,
    PipelineUnavailable,
    ResultTimeout,
    TaskTooLarge,
    UnknownOutcome,
)
from streams.events import Result, TableTask, new_id
from streams.listener import Listener
from streams.records import OffsetPolicy

OnSent = Callable[[asyncio.Future[Any]], object]


def ignore(_: asyncio.Future[Any]) -> None:
    """Do nothing when a task is sent."""


class Submitted(NamedTuple):
    """An accepted task and its place in `tasks`."""

    id: str
    partition: int
    offset: int


def encode_task(X: Sequence[Sequence[Any]], task_id: str, model: str | None = None) -> bytes:
    """A task's message; `X` has shape (rows, features). Raises TaskTooLarge, and InvalidRow.

    NaN is sent as a missing value. JSON has no infinity, and as a missing value it would get a
    wrong answer.
    """
    task = TableTask(v=1, id=task_id, X=[list(r) for r in X], at=time.time(), model=model)
    value = codec.encode(task)
    if b"null" in value and any(map(_is_infinite, chain.from_iterable(task.X))):
        raise InvalidRow("not_finite", "a value is infinite, and a task has finite numbers only")
    if len(value) > MAX_TASK_BYTES:
        raise TaskTooLarge(f"the task has {len(value):,} bytes, the limit is {MAX_TASK_BYTES:,}")
    return value


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and math.isinf(value)


class Client:
    """A producer of tasks and, from the first `ask` or `wait` on, a reader of results.

    Use as an async context manager. Safe for many concurrent calls in one event loop.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._policy = OffsetPolicy(hasty=True)
        self._listener = Listener(settings, self._policy)
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, wait: float | None = None) -> None:
        """Connect the producer.

        Raises PipelineUnavailable after `wait` seconds without a broker, and PipelineRefused.
        """
        try:
            self._policy.learn(await admin.prepare(self._settings, wait, CLIENT))
            self._producer = await self._new_producer()
        except AccessRefused as e:
            raise PipelineRefused(str(e)) from e
        except (BrokerUnavailable, TopicMismatch, KafkaError, OSError, TimeoutError) as e:
            raise self._refused(e) or PipelineUnavailable(str(e)) from e

    def lasting_refusal(self) -> PipelineRefused | None:
        """Why the broker has not let this client in for some seconds; None if it does."""
        refusal = login_of(self._settings).lasting_refusal()
        return None if refusal is None else PipelineRefused(str(refusal))

    def _refused(self, error: Exception) -> PipelineRefused | None:
        """The error to raise if the broker refuses the settings or rights of this client."""
        refusal = connection.refused(error, self._settings, CLIENT)
        return None if refusal is None else PipelineRefused(str(refusal))

    async def _new_producer(self) -> AIOKafkaProducer:
        producer = connection.new_producer(self._settings, MAX_TASK_BYTES + OVERHEAD_BYTES)
        await connection.start(producer)
        return producer

    async def stop(self) -> None:
        """Stop reading and disconnect. Waiting calls are cancelled."""
        await self._listener.close()
        await connection.stop(self._producer)

    def give_up(self) -> None:
        """End all waits for results, present and future, at once as if they had timed out.

        Tasks are published as before. To be called in the event loop.
        """
        self._listener.give_up()

    async def submit(
        self,
        X: Sequence[Sequence[Any]],
        task_id: str | None = None,
        model: str | None = None,
        *,
        within: float | None = None,
        on_sent: OnSent = ignore,
    ) -> Submitted:
        """Publish one task and await the broker's acknowledgement.

        `X` has shape (rows, features). Raises TaskTooLarge, PipelineUnavailable if the task could
        not be sent, or UnknownOutcome if the broker does not confirm it `within` seconds, by
        default those of the setting `delivery_timeout`; then retry with the same id. `on_sent` gets
        the future of the acknowledgement, which may come after that.
        """
        task_id = task_id or new_id()
        value = encode_task(X, task_id, model)
        if self._producer is None:
            raise PipelineUnavailable("the client is not started")
        sent = False

        def sending(delivery: asyncio.Future[Any]) -> None:
            nonlocal sent
            sent = True
            on_sent(delivery)

        try:
            async with asyncio.timeout(within or self._settings.delivery_timeout):
                place = await self._send(self._producer, task_id.encode(), value, sending)
        except MessageSizeTooLargeError as e:
            raise TaskTooLarge(f"the broker refuses a task of {len(value):,} bytes") from e
        except (KafkaError, TimeoutError, OSError) as e:
            raise self._failed(e, task_id, sent) from e
        return Submitted(task_id, place.partition, place.offset)

    def _failed(self, error: Exception, task_id: str, sent: bool) -> ClientError:
        refusal = self._refused(error)
        if refusal and (not sent or access.explain(error, self._settings, CLIENT)):
            return refusal
        reason = str(refusal or type(error).__name__)
        if sent:  # a login may be refused after the task was written
            return UnknownOutcome(f"the broker did not confirm task {task_id} ({reason})")
        return PipelineUnavailable(f"the broker did not take task {task_id} ({reason})")

    async def _send(
        self, producer: AIOKafkaProducer, key: bytes, value: bytes, on_sent: OnSent
    ) -> Any:
        """Write one task, with a new producer if the broker refuses this one.

        If a broker is away for so long that a batch expires, aiokafka 0.14.0 does not reuse the
        batch's sequence numbers, and the broker refuses all later ones, for ever.
        """
        trace = TRACEPARENT.get()
        headers = None if trace is None else [(TRACE_HEADER, trace)]

        async def send(by: AIOKafkaProducer) -> Any:
            # Nothing is sent if this is cancelled; what is sent goes on if its wait is cancelled.
            delivery = await by.send(self._settings.names.tasks, value, key=key, headers=headers)
            delivery.add_done_callback(_retrieve)  # asyncio reports an error that nobody awaits
            on_sent(delivery)
            return await asyncio.shield(delivery)

        try:
            return await send(producer)
        except OutOfOrderSequenceNumber:
            return await send(await self._replace(producer))

    async def _replace(self, producer: AIOKafkaProducer) -> Any:
        """The successor of a refused producer; if many calls fail, the first one starts it."""
        async with self._starting:
            if self._producer is not producer:
                return self._producer
            # Not in the context of the call that failed first: see `Listener.open`.
            starting = asyncio.create_task(self._new_producer(), context=Context())
            self._producer = successor = await starting
            await connection.stop(producer)
            return successor

    async def ask(
        self,
        X: Sequence[Sequence[Any]],
        timeout: float,
        task_id: str | None = None,
        model: str | None = None,
        *,
        digest: str | None = None,
        within: float | None = None,
        on_sent: OnSent = ignore,
    ) -> Result:
        """Publish one task, as `submit` does, and await its own result.

        `digest` is `codec.input_digest(X)`, if the caller has it. Raises ResultTimeout after
        `timeout` seconds, UnreadableResult if what came is not a result, and IdConflict if it is
        that of another task with this id.
        """
        await self.tail()
        task_id = task_id or new_id()
        with self._listener.expected(task_id) as future:
            await self.submit(X, task_id, model, within=within, on_sent=on_sent)
            result = await _within(timeout, future, task_id)
        if not codec.is_result_of(result, digest or codec.input_digest(X), model):
            raise IdConflict(f"the id {task_id} belongs to another task, which is unchanged")
        return result

    async def wait(self, task_id: str, timeout: float) -> Result:
        """Await the result of a task that was published earlier, by anyone.

        Reads `results` from its beginning, because the answer may be there already.
        Raises ResultTimeout after `timeout` seconds, and UnreadableResult.
        """
        # Expected first: a reader that is at work may read it before `tail` returns.
        with self._listener.expected(task_id) as future:
            await self.tail(from_beginning=True)
            return await _within(timeout, future, task_id)

    async def tail(self, from_beginning: bool = False) -> None:
        """Start the reader of `results`, by default at the end of the log.

        Returns when its positions are known.
        """
        async with self._starting:
            try:
                await self._listener.open(from_beginning)
            except (KafkaError, OSError, TimeoutError, AccessRefused) as e:
                refusal = self._refused(e)
                raise refusal or PipelineUnavailable(f"cannot read results: {e!r}") from e


async def _within(timeout: float, future: asyncio.Future[Result | None], task_id: str) -> Result:
    try:
        async with asyncio.timeout(timeout):
            result = await future
    except TimeoutError as e:
        raise ResultTimeout(task_id, timeout) from e
    if result is None:
        raise ResultTimeout(task_id, timeout)
    return result


def _retrieve(delivery: asyncio.Future[Any]) -> None:
    """Mark the error of a delivery as seen, if there is one."""
    if not delivery.cancelled():
        delivery.exception()
