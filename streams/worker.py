"""The worker: `tasks` in, one vectorised predict per chunk, `results` out.

Run as many as there are partitions: `faust -A streams.worker worker -l info`.
"""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Sequence
from typing import Any

from opentelemetry.trace import Span, SpanKind, StatusCode

from infra import config
from infra.config import Settings
from infra.process.status import State
from infra.topics import DEAD_LETTERS, RESULTS, TASKS, TRACE_HEADER, WORKER_GROUP
from infra.tracing import Tracing, is_sampled, traceparent
from model import artifact
from streams import application
from streams.codec import decode_result
from streams.events import Result
from streams.processing.processor import Answerer, Answers, DeadLetter, Message
from streams.records import Chunk

Header = tuple[str, bytes]
PROCESS = f"process {TASKS}"
SLOW_SECONDS = 0.1  # above this a chunk leaves the event loop; below, two threads only fight


class Inference:
    """Answers chunks and publishes the answers; several deliveries are awaited at once."""

    def __init__(self, settings: Settings) -> None:
        self.state: State = "starting"
        self.model: str | None = None
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.chunks_in_flight)
        self._finishing: set[asyncio.Task[None]] = set()
        self._tracing: Tracing | None = None

    async def open(self, _cluster: str) -> None:
        """Load the model; raises ArtifactError or ConfigError."""
        loaded = artifact.load(self._settings.model)
        worker = f"{socket.gethostname()}-{os.getpid()}"
        self._answerer = Answerer(loaded, worker, self._settings.max_rows)
        if self._settings.otel:
            self._tracing = Tracing("petal-worker")
        self.model, self.state = loaded.card.id, "ready"

    async def close(self) -> None:
        """Export the traces that are left; awaited when all is answered."""
        if self._tracing is not None:
            await application.off_loop(self._tracing.close)

    async def handle(self, event: Any, producer: Any) -> None:
        """Answer one chunk; its ack follows when the broker has all its answers.

        Results are queued in the order of their tasks, so order per partition is kept.
        """
        chunk: Chunk = event.value
        begun = time.time_ns()
        answers = await self._answer(chunk)
        await self._slots.acquire()
        letters = answers.dead_letters
        traces = _traces(chunk, letters)
        spans: list[Span] = []
        if self._tracing is not None and traces:
            spans = _spans(self._tracing, begun, answers.results, traces)
        deliveries = await producer.send_all(RESULTS, chunk.partition, answers.results, traces)
        deliveries += await producer.send_all(
            DEAD_LETTERS,
            0,
            [(letter.key, letter.value) for letter in letters],
            [_headers(chunk, letter) for letter in letters],
        )
        finishing = asyncio.create_task(self._finish(event, deliveries, spans))
        self._finishing.add(finishing)
        finishing.add_done_callback(self._finishing.discard)

    async def _answer(self, chunk: Chunk) -> Answers:
        columns = chunk.columns
        if self._answerer.seconds(columns) < SLOW_SECONDS:
            return self._answerer.answer(chunk.partition, columns)
        answers: Answers = await application.off_loop(
            self._answerer.answer, chunk.partition, columns
        )
        return answers

    async def _finish(
        self, event: Any, deliveries: list[Awaitable[Any]], spans: list[Span]
    ) -> None:
        try:
            async with asyncio.timeout(self._settings.delivery_timeout):
                for delivery in deliveries:
                    await delivery
        except Exception as e:  # the outermost edge: without an ack the chunk is read again
            application.fail("publishing results", e)
        for span in spans:
            span.end()
        event.ack()
        self._slots.release()


def _traces(chunk: Chunk, letters: list[DeadLetter]) -> list[list[Header]]:
    """The trace header of each record that has a result, or nothing if no record has any."""
    if not any(record.headers for record in chunk.records):
        return []
    dead = {letter.offset for letter in letters}
    return [
        [(name, value) for name, value in record.headers if name == TRACE_HEADER and value]
        for record in chunk.records
        if record.offset not in dead
    ]


def _spans(
    tracing: Tracing, at: int, results: Sequence[Message], traces: list[list[Header]]
) -> list[Span]:
    """A span, begun `at`, of each task whose trace is kept; its result's trace goes on from it."""
    spans = []
    for (_, value), trace in zip(results, traces, strict=True):
        if not trace or not is_sampled(trace[0][1]):
            continue
        span = tracing.start(PROCESS, SpanKind.CONSUMER, trace[0][1], at=at)
        _describe(span, decode_result(value))
        trace[:] = [(TRACE_HEADER, traceparent(span) or trace[0][1])]
        spans.append(span)
    return spans


def _describe(span: Span, result: Result) -> None:
    span.set_attributes(
        {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": WORKER_GROUP,
            "messaging.destination.name": TASKS,
            "messaging.destination.partition.id": str(result.task.partition),
            "messaging.kafka.offset": result.task.offset,
            "messaging.message.id": result.id,
            "petal.model": result.model,
        }
    )
    if result.error is not None:
        span.set_attribute("error.type", result.error.code)
        span.set_status(StatusCode.ERROR, result.error.message)


def _headers(chunk: Chunk, letter: DeadLetter) -> list[Header]:
    """Why a record is a dead letter, and where it stands."""
    return [
        ("petal-reason", letter.reason.encode()),
        ("petal-topic", chunk.topic.encode()),
        ("petal-partition", str(chunk.partition).encode()),
        ("petal-offset", str(letter.offset).encode()),
    ]


def create_app(settings: Settings) -> application.Application:
    """The worker's Faust app; connects to nothing."""
    inference = Inference(settings)
    app = application.create(WORKER_GROUP, settings, inference)
    tasks = app.topic(TASKS, value_type=bytes, value_serializer="raw", key_serializer="raw")

    @app.agent(tasks, name="infer", concurrency=1)
    async def infer(stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                await inference.handle(event, app.producer)
            except Exception as e:  # Faust would go on past the chunk; it must be read again
                application.fail("answering tasks", e)

    @app.on_before_shutdown.connect
    async def close(_app: Any, **_: Any) -> None:
        await inference.close()

    return app


app = create_app(config.load_or_exit())
