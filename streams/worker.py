"""The worker: `tasks` in, one vectorised predict per chunk, `results` out.

Run as many as there are partitions: `faust -A streams.worker worker -l info`.
"""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Sequence
from typing import Any

from opentelemetry.trace import Span

from infra import config
from infra.broker.log_id import LogIds
from infra.config import Settings
from infra.process.status import State
from infra.topics import DEAD_LETTERS, RESULTS, TASKS, WORKER_GROUP
from infra.tracing import Tracing
from model import artifact
from streams import application
from streams.application import Application
from streams.processing.decoder import DeadLetter
from streams.processing.processor import Processed, Processor
from streams.processing.spans import ChunkSpans, Header, trace_headers
from streams.records import Chunk

# A chunk that takes longer leaves the event loop; below, a second thread would only add
# contention for the GIL.
SLOW_SECONDS = 0.1


class Inference:
    """Processes chunks and publishes their results; several deliveries are awaited at once."""

    _processor: Processor  # from `open` on

    def __init__(self, settings: Settings) -> None:
        self.state: State = "starting"
        self.model: str | None = None
        self.reason: str | None = None
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.chunks_in_flight)
        self._finishing: set[asyncio.Task[None]] = set()
        self._tracing: Tracing | None = None

    async def open(self, _cluster: str) -> None:
        """Load the model; raises ArtifactError or ConfigError."""
        loaded = artifact.load(self._settings.model)
        worker = f"{socket.gethostname()}-{os.getpid()}"
        self._processor = Processor(loaded, worker, self._settings.max_rows)
        if self._settings.otel:
            self._tracing = Tracing("petal-worker")
        self.model, self.state = loaded.card.id, "ready"

    async def close(self) -> None:
        """Export the remaining traces, after all chunks are acknowledged."""
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)

    async def handle(self, event: Any, producer: Any) -> None:
        """Process one chunk; its ack follows when the broker has all its results.

        Results are queued in the order of their tasks, so order per partition is kept.
        """
        chunk: Chunk = event.value
        begun = time.time_ns()
        processed = await self._process(chunk)
        await self._slots.acquire()
        letters = processed.dead_letters
        traces = trace_headers(chunk, letters)
        spans = self._start_spans(begun, chunk.partition, processed, traces)
        deliveries = await producer.send_all(RESULTS, chunk.partition, processed.results, traces)
        deliveries += await producer.send_all(
            DEAD_LETTERS,
            0,
            [(letter.key, letter.value) for letter in letters],
            [dead_letter_headers(chunk, letter) for letter in letters],
        )
        finishing = asyncio.create_task(self._finish(event, deliveries, spans))
        self._finishing.add(finishing)
        finishing.add_done_callback(self._finishing.discard)

    async def _process(self, chunk: Chunk) -> Processed:
        columns = chunk.columns
        if self._processor.estimate_seconds(columns) < SLOW_SECONDS:
            return self._processor.process(chunk.partition, columns)
        return await asyncio.to_thread(self._processor.process, chunk.partition, columns)

    def _start_spans(
        self, begun: int, partition: int, processed: Processed, traces: Sequence[list[Header]]
    ) -> list[Span]:
        if self._tracing is None or not traces:
            return []
        spans = ChunkSpans(self._tracing, self.model or "", partition, begun)
        return spans.start(processed, traces)

    async def _finish(
        self, event: Any, deliveries: list[Awaitable[Any]], spans: list[Span]
    ) -> None:
        try:
            async with asyncio.timeout(self._settings.delivery_timeout):
                for delivery in deliveries:
                    await delivery
        except Exception as e:  # the outermost edge: without an ack the chunk is reread
            application.fail("publishing results", e)
        for span in spans:
            span.end()
        event.ack()
        self._slots.release()


def dead_letter_headers(chunk: Chunk, letter: DeadLetter) -> list[Header]:
    """Why a record is a dead letter, and where it stands."""
    return [
        ("petal-reason", letter.reason.encode()),
        ("petal-topic", chunk.topic.encode()),
        ("petal-partition", str(chunk.partition).encode()),
        ("petal-offset", str(letter.offset).encode()),
    ]


def create_app(settings: Settings) -> Application:
    """The worker's Faust app; connects to nothing."""
    inference = Inference(settings)
    app = Application(WORKER_GROUP, settings, inference, LogIds(settings))
    tasks = app.topic(TASKS, value_type=bytes, value_serializer="raw", key_serializer="raw")

    @app.agent(tasks, name="infer", concurrency=1)
    async def infer(stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                await inference.handle(event, app.producer)
            except Exception as e:  # Faust would skip the chunk, which must be reread
                application.fail("answering tasks", e)

    @app.on_before_shutdown.connect
    async def close(_app: Any, **_: Any) -> None:
        await inference.close()

    return app


app = create_app(config.load_or_exit())
