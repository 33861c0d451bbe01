"""Faust's producer, which also publishes whole batches: one future to await for each.

A broker may refuse a batch for ever: a record is too large for its topic, or this machine's clock
is hours ahead. Such a batch is sent again in halves, down to the record that is refused alone, in
whose place another is sent. Records before and after it may repeat.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import repeat
from typing import Any, NamedTuple

from aiokafka import errors
from faust.transport.drivers import aiokafka as driver
from typing_extensions import override

from infra.broker import connection
from infra.broker.security.login import secure
from infra.errors import AccessRefused

BATCH_BYTES = 900_000  # of one produce request's batch; under Kafka's default message limit
NO_TIMESTAMP = -1  # Kafka takes it whatever the topic's limits are
OLD_PRODUCER_SECONDS = 30.0
REFUSED = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.InvalidTimestampError,
    errors.CorruptRecordException,
    errors.PolicyViolationError,
    errors.UnknownError,  # also INVALID_RECORD, which aiokafka does not know
)
# After a refused batch, a broker refuses all later ones of an idempotent producer.
OUT_OF_ORDER = (errors.OutOfOrderSequenceNumber, errors.UnknownProducerId, errors.ProducerFenced)

Message = tuple[bytes | None, bytes | None]  # key and value
Header = tuple[str, bytes]

logger = logging.getLogger("petalstream")


class Outgoing(NamedTuple):
    """Messages to one partition; `headers`: one list for each, or none at all.

    `instead` makes another message in place of one that is refused alone, by its number, how many
    were refused before it, and the error; None if there is no other. `time_ms`: a time that the
    broker has taken before, that of the newest record to which these respond.
    """

    topic: str
    partition: int
    messages: Sequence[Message]
    headers: Sequence[list[Header]]
    instead: Callable[[int, int, Exception], tuple[Message, list[Header]] | None]
    time_ms: int
    refused: int = 0  # how many messages before this single one

    def part(self, start: int, end: int) -> "Outgoing":
        """Some of the messages."""
        return self._replace(
            messages=self.messages[start:end],
            headers=self.headers[start:end],
            instead=lambda n, refused, error: self.instead(start + n, refused, error),
        )


class Producer(driver.Producer):  # type: ignore[misc]
    """Writes whole batches; idempotent where the broker can."""

    _producer: Any
    _clock_refused = False
    _replacing: asyncio.Lock | None = None
    _stopping: asyncio.Task[None] | None = None  # of a producer that was replaced

    @override
    def _settings_extra(self) -> Mapping[str, Any]:
        """Add idempotence, for which Faust has no setting."""
        return connection.durability(self.transport.idempotence)

    @override
    async def on_start(self) -> None:
        """Connect; Faust would log a traceback where the broker refuses it."""
        try:
            await super().on_start()
        except (errors.KafkaError, AccessRefused) as e:
            self.app.end_if_refused(e)
            raise

    @override
    def _new_producer(self, transactional_id: str | None = None) -> Any:
        """A producer whose connections are those of the settings, not of Faust's credentials."""
        producer = super()._new_producer(transactional_id)
        secure(producer.client, self.app.settings)
        return producer

    @override
    async def flush(self) -> None:
        """Do nothing: each delivery is awaited before its ack, so a commit need not wait."""

    async def send_all(
        self,
        topic: str,
        partition: int,
        messages: Iterable[tuple[bytes | None, bytes | None]],
        headers: Sequence[list[tuple[str, bytes]]] = (),
        time_ms: int | None = None,
    ) -> list[Awaitable[Any]]:
        """Queue (key, value) messages to one partition, in order; `headers` one list for each.

        Returns one future per produce batch; the messages are written when all are done.
        `time_ms`: their timestamp, by default of this machine's clock.
        """
        producer = self._ensure_producer()
        deliveries: list[Awaitable[Any]] = []
        batch = producer.create_batch()
        append = batch._builder.append  # half the cost of `batch.append`, its wrapper
        count = 0
        now = int(time.time() * 1000) if time_ms is None else time_ms
        for (key, value), head in zip(messages, headers or repeat([])):  # noqa: B905
            if append(count, now, key, value, head) is None:
                deliveries.append(await self._send(batch, count, topic, partition))
                batch = producer.create_batch()
                append = batch._builder.append
                append(0, now, key, value, head)
                count = 0
            count += 1
        if count:
            deliveries.append(await self._send(batch, count, topic, partition))
        return deliveries

    async def _send(self, batch: Any, count: int, topic: str, partition: int) -> Awaitable[Any]:
        batch._relative_offset = count
        delivery: Awaitable[Any] = await self._ensure_producer().send_batch(
            batch, topic, partition=partition
        )
        return delivery

    async def publish(self, outgoing: Outgoing) -> list[Awaitable[Any]]:
        """`send_all`, whose futures are done when each message, or another one, is written."""
        producer = self._ensure_producer()
        topic, partition, messages, headers, _, time_ms, _ = outgoing
        at = (time_ms,) if self._clock_refused else ()
        deliveries = await self.send_all(topic, partition, messages, headers, *at)
        again = _Once(lambda error: self._publish_again(outgoing, producer, at, error))
        return [asyncio.create_task(_delivered(delivery, again)) for delivery in deliveries]

    async def _publish_again(
        self, outgoing: Outgoing, producer: Any, at: Sequence[int], error: Exception
    ) -> None:
        """`producer` and `at` are those with which a batch was refused."""
        await self._replace(producer)
        count = len(outgoing.messages)
        parts = [outgoing]
        if isinstance(error, errors.InvalidTimestampError) and NO_TIMESTAMP not in at:
            self._refuse_clock()
            # What was refused is the clock's time, or the task's.
            parts = [outgoing._replace(time_ms=NO_TIMESTAMP)] if at else parts
        elif isinstance(error, REFUSED) and count == 1:
            parts = [_with_other_message(outgoing, error)]
        elif isinstance(error, REFUSED):
            parts = [outgoing.part(0, count // 2), outgoing.part(count // 2, count)]
        for part in parts:
            for delivery in await self.publish(part):
                await delivery

    def _refuse_clock(self) -> None:
        if self._clock_refused:
            return
        self._clock_refused = True
        logger.error(
            "the broker refuses the time of this machine's clock, %s; results carry the time of "
            "their tasks instead; set the clock and restart the worker", time.ctime(),
        )  # fmt: skip

    async def _replace(self, producer: Any) -> None:
        """A new producer in place of an idempotent one of which a batch was refused."""
        if not self.transport.idempotence:
            return
        self._replacing = self._replacing or asyncio.Lock()
        async with self._replacing:
            if self._producer is not producer:
                return
            new = self._new_producer()
            await new.start()
            self._producer = new
        self._stopping = asyncio.create_task(_stop(producer, self._stopping))


class _Once:
    """Work that several deliveries ask for, and that is done once, at the first error."""

    def __init__(self, work: Callable[[Exception], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, error: Exception) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._work(error))
        await asyncio.shield(self._task)


async def _delivered(delivery: Awaitable[Any], again: _Once) -> None:
    try:
        await delivery
    except (*REFUSED, *OUT_OF_ORDER) as e:
        await again(e)


def _with_other_message(outgoing: Outgoing, error: Exception) -> Outgoing:
    other = outgoing.instead(0, outgoing.refused, error)
    if other is None:
        raise error
    message, headers = other
    return outgoing._replace(messages=[message], headers=[headers], refused=outgoing.refused + 1)


async def _stop(producer: Any, before: asyncio.Task[None] | None) -> None:
    """Its other batches are delivered, or refused, meanwhile."""
    with suppress(TimeoutError, errors.KafkaError):
        await asyncio.wait_for(producer.stop(), OLD_PRODUCER_SECONDS)
    if before is not None:
        await before
