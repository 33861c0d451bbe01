"""The worker: `tasks` in, one vectorised predict per chunk, `results` out.

Run as many as there are partitions: `faust -A streams.worker worker -l info`.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any

from opentelemetry.trace import Span

from infra import config
from infra.broker.batches import UNDECODABLE, UndecodableBatch
from infra.broker.log_id import LogIds
from infra.config import Settings
from infra.process.memory import end_first
from infra.process.status import State
from infra.topics import (
    DETAIL,
    FULL_BYTES,
    LAST_OFFSET,
    MAX_VALUE_BYTES,
    SHA256,
)
from infra.tracing import Tracing
from model.errors import describe
from streams.application import Application, announce
from streams.monitoring.worker_metrics import WorkerMetrics
from streams.processing import isolation
from streams.processing.child import Order
from streams.processing.cut import KEPT_BYTES, cut, is_too_large
from streams.processing.decoder import DeadLetter
from streams.processing.isolation import IsolationFailed, SetAside
from streams.processing.live_models import LiveModels, ModelSet
from streams.processing.processor import Processed, join, refused
from streams.processing.router import Router
from streams.processing.spans import ChunkSpans, Header, trace_headers
from streams.records import Chunk, Columns
from streams.transport.producer import Message, Outgoing

# A chunk that takes longer leaves the event loop; below, a second thread would only add
# contention for the GIL.
SLOW_SECONDS = 0.1
OOM_SCORE = 500  # above the broker's and the sink's

logger = logging.getLogger("petalstream")


class Inference:
    """Processes chunks and publishes their results; several deliveries are awaited at once."""

    def __init__(self, settings: Settings) -> None:
        self.state: State = "starting"
        self.reason: str | None = None
        self.metrics = WorkerMetrics()
        self._settings = settings
        self._worker = f"{socket.gethostname()}-{os.getpid()}"
        self._models = LiveModels(settings, self._worker, self._report_change)
        self._slots = asyncio.Semaphore(settings.chunks_in_flight)
        self._finishing: set[asyncio.Task[None]] = set()
        self._tracing: Tracing | None = None

    async def open(self, _cluster: str) -> None:
        """Load the models; raises ArtifactError or ConfigError."""
        settings = self._settings
        end_first(OOM_SCORE)
        self._models.open()
        if settings.otel:
            self._tracing = Tracing("petal-worker")
        self.state = "ready"

    @property
    def model(self) -> str | None:
        """The id of the default, once it is loaded."""
        return self._models.default

    @property
    def models(self) -> list[str]:
        """The ids of all models that answer."""
        return self._models.ids

    @property
    def model_since(self) -> float:
        """When the default began to answer, in seconds since the epoch."""
        return self._models.since

    @property
    def loading(self) -> str | None:
        """The id of the default that is being loaded in place of the present one."""
        return self._models.loading

    @property
    def unavailable(self) -> list[str]:
        """Why models are not served, a sentence each."""
        return self._models.unavailable

    def reload(self) -> None:
        """Load models whose files have changed, and answer with them from the next chunk on."""
        self._models.reload()

    def _report_change(self, new: str, old: str) -> None:
        announce(f"{self._settings.names.worker_group} answers with {new}, before {old}")

    async def close(self) -> None:
        """Export the remaining traces, after all chunks are acknowledged."""
        for task in self._finishing:
            task.cancel()
        await asyncio.gather(*self._finishing, return_exceptions=True)
        await self._models.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)

    async def handle(self, event: Any, producer: Any) -> None:
        """Process one chunk; its ack follows when the broker has all its results.

        Results are queued in the order of their tasks, so order per partition is kept.
        """
        if event.value.alone:  # the transport delivers no other chunk of this partition
            self._start(self._handle_alone(event, producer))
            return
        begun = time.time_ns()
        used = self._models.begin()
        processed = await self._process(event.value.decoded()[0], used.router)
        deliveries, spans = await self._send(event.value, processed, producer, begun)
        self._start(self._finish(event, deliveries, spans, used))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    async def _handle_alone(self, event: Any, producer: Any) -> None:
        """Process the records of a chunk in a child process, one after the other."""
        try:
            chunk: Chunk = event.value
            self.reason = f"tries records of {chunk.topic}[{chunk.partition}] one by one"
            begun, used = time.time_ns(), self._models.begin()
            try:
                records = chunk.decoded()[0].records
                outcomes = [await self._process_alone(event, record, used) for record in records]
            except IsolationFailed as e:  # most records do no harm, and a restart may mend it
                logger.error("%s; trying its records in the worker itself", e)
                outcomes = [await self._process(chunk.decoded()[0], used.router)]
            deliveries, spans = await self._send(chunk, join(outcomes), producer, begun)
            await self._finish(event, deliveries, spans, used)
            self.reason = None
        except Exception as e:  # the outermost edge: without an ack the chunk is reread
            event.app.fail("answering tasks one by one", e)

    async def _process_alone(self, event: Any, record: Any, used: ModelSet) -> Processed:
        chunk: Chunk = event.value
        if len(record.value or b"") > MAX_VALUE_BYTES:  # it is not even parsed
            columns = Columns([record.offset], [record.key], [record.value])
            return used.router.route(columns).process(chunk.partition)
        consumer = event.app.consumer
        order = Order(chunk.partition, record.offset, record.key, record.value)
        outcome = await used.isolation.process(order, consumer.note_progress)
        if not isinstance(outcome, SetAside):
            return outcome
        consumer.found_alone((chunk.topic, chunk.partition), record.offset)
        logger.error(
            "%s[%d] offset %d is set aside: %s: %s",
            chunk.topic, chunk.partition, record.offset, outcome.code, outcome.sentence,
        )  # fmt: skip
        return isolation.end_of(outcome, order, used.router)

    async def _process(self, chunk: Chunk, router: Router) -> Processed:
        if not chunk.records:
            return Processed([], [], {}, [])
        routed = router.route(chunk.columns)
        if routed.seconds < SLOW_SECONDS:
            return routed.process(chunk.partition)
        return await asyncio.to_thread(routed.process, chunk.partition)

    async def _send(
        self, chunk: Chunk, processed: Processed, producer: Any, begun: int
    ) -> tuple[list[Awaitable[Any]], list[Span]]:
        """Queue results and dead letters, once there is a slot for their deliveries."""
        await self._slots.acquire()
        chunk, batches = chunk.decoded()
        letters = processed.dead_letters
        self.metrics.count(processed, len(batches))
        traces = trace_headers(chunk, letters)
        spans = self._start_spans(begun, chunk.partition, processed, traces)
        time_ms = chunk.records[-1].timestamp if chunk.records else time.time_ns() // 1_000_000
        names = self._settings.names
        results = results_of(names.results, chunk, processed, traces, time_ms)
        deliveries = await producer.publish(results)
        topic = names.dead_letters
        deliveries += await producer.publish(letters_of(topic, chunk, letters, time_ms))
        if batches:
            deliveries += await producer.publish(batches_of(topic, chunk, batches, time_ms))
        return deliveries, spans

    def _start_spans(
        self, begun: int, partition: int, processed: Processed, traces: Sequence[list[Header]]
    ) -> list[Span]:
        if self._tracing is None or not traces:
            return []
        spans = ChunkSpans(self._tracing, self._settings.names, partition, begun)
        return spans.start(processed, traces)

    async def _finish(
        self, event: Any, deliveries: list[Awaitable[Any]], spans: list[Span], used: ModelSet
    ) -> None:
        try:
            async with asyncio.timeout(self._settings.delivery_timeout):
                for delivery in deliveries:
                    await delivery
        except Exception as e:  # the outermost edge: without an ack the chunk is reread
            event.app.fail("publishing results", e)
        for span in spans:
            span.end()
        event.ack()
        self._slots.release()
        await self._models.end(used)


def results_of(
    topic: str,
    chunk: Chunk,
    processed: Processed,
    traces: Sequence[list[Header]],
    time_ms: int,
) -> Outgoing:
    """The results of a chunk; in place of one that the broker refuses, an error of its task."""
    results = processed.results

    def instead(n: int, before: int, error: Exception) -> tuple[Message, list[Header]] | None:
        task_id, value = results[n]
        if before:
            return None
        logger.error("a result for task %s is replaced by an error: %r", task_id.decode(), error)
        return (task_id, refused(value, describe(error))), []

    return Outgoing(topic, chunk.partition, results, traces, instead, time_ms)


def letters_of(topic: str, chunk: Chunk, letters: Sequence[DeadLetter], time_ms: int) -> Outgoing:
    """The dead letters of a chunk; those that are too large, or refused, are cut."""
    messages: list[Message] = []
    headers: list[list[Header]] = []
    for letter in letters:
        message, more = cut(letter) if is_too_large(letter) else ((letter.key, letter.value), [])
        messages.append(message)
        headers.append(dead_letter_headers(chunk, letter) + more)

    def instead(n: int, before: int, _error: Exception) -> tuple[Message, list[Header]] | None:
        if before >= len(KEPT_BYTES):
            return None
        message, more = cut(letters[n], KEPT_BYTES[before])
        return message, dead_letter_headers(chunk, letters[n]) + more

    return Outgoing(topic, 0, messages, headers, instead, time_ms)


def batches_of(
    topic: str, chunk: Chunk, batches: Sequence[UndecodableBatch], time_ms: int
) -> Outgoing:
    """The dead letters of batches that cannot be decoded, with the beginning of their bytes."""
    headers = [batch_headers(chunk, batch) for batch in batches]

    def instead(n: int, before: int, _error: Exception) -> tuple[Message, list[Header]] | None:
        return None if before else ((b"", batches[n].head[: KEPT_BYTES[-1]]), headers[n])

    return Outgoing(topic, 0, [(None, b.head) for b in batches], headers, instead, time_ms)


def dead_letter_headers(chunk: Chunk, letter: DeadLetter) -> list[Header]:
    """Why a record is a dead letter, and where it stands."""
    return _place_headers(chunk, letter.reason, letter.offset)


def batch_headers(chunk: Chunk, batch: UndecodableBatch) -> list[Header]:
    """Why a whole batch is a dead letter, where it stands, and what identifies its bytes."""
    return [
        *_place_headers(chunk, UNDECODABLE, batch.first),
        (LAST_OFFSET, str(batch.last).encode()),
        (DETAIL, batch.reason.encode()),
        (FULL_BYTES, str(batch.size).encode()),
        (SHA256, batch.digest.encode()),
    ]


def _place_headers(chunk: Chunk, reason: str, offset: int) -> list[Header]:
    return [
        ("petal-reason", reason.encode()),
        ("petal-topic", chunk.topic.encode()),
        ("petal-partition", str(chunk.partition).encode()),
        ("petal-offset", str(offset).encode()),
    ]


def create_app(settings: Settings) -> Application:
    """The worker's Faust app; connects to nothing."""
    inference = Inference(settings)
    app = Application(settings.names.worker_group, settings, inference, LogIds(settings))
    tasks = app.topic(
        settings.names.tasks, value_type=bytes, value_serializer="raw", key_serializer="raw"
    )

    @app.agent(tasks, name="infer", concurrency=1)
    async def infer(stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                await inference.handle(event, app.producer)
            except Exception as e:  # Faust would skip the chunk, which must be reread
                app.fail("answering tasks", e)

    @app.on_before_shutdown.connect
    async def close(_app: Any, **_: Any) -> None:
        await inference.close()

    return app


app = create_app(config.load_or_exit())
