"""The worker: `tasks` in, one vectorised predict per chunk, `results` out.

Run as many as there are partitions: `faust -A streams.worker worker -l info`.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable
from typing import Any

from infra import config
from infra.config import Settings
from model import artifact
from streams import application
from streams.answer import Answerer, Answers, Batch, DeadLetter
from streams.chunks import Chunk
from streams.status import State
from streams.topics import DEAD_LETTERS, RESULTS, TASKS, TRACE_HEADER, WORKER_GROUP

SLOW_SECONDS = 0.1  # above this a chunk leaves the event loop; below, two threads only fight


class Inference:
    """Answers chunks and publishes the answers; several deliveries are awaited at once."""

    def __init__(self, settings: Settings) -> None:
        self.state: State = "starting"
        self.model: str | None = None
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.chunks_in_flight)
        self._finishing: set[asyncio.Task[None]] = set()

    async def open(self, _cluster: str) -> None:
        """Load the model; raises ArtifactError."""
        loaded = artifact.load(self._settings.model)
        worker = f"{socket.gethostname()}-{os.getpid()}"
        self._answerer = Answerer(loaded, worker, self._settings.max_rows)
        self.model, self.state = loaded.card.id, "ready"

    async def handle(self, event: Any, producer: Any) -> None:
        """Answer one chunk; its ack follows when the broker has all its answers.

        Results are queued in the order of their tasks, so order per partition is kept.
        """
        chunk: Chunk = event.value
        answers = await self._answer(chunk)
        await self._slots.acquire()
        letters = answers.dead_letters
        traces = _traces(chunk, letters)
        deliveries = await producer.send_all(RESULTS, chunk.partition, answers.results, traces)
        deliveries += await producer.send_all(
            DEAD_LETTERS,
            0,
            [(letter.key, letter.value) for letter in letters],
            [_headers(chunk, letter) for letter in letters],
        )
        finishing = asyncio.create_task(self._finish(event, deliveries))
        self._finishing.add(finishing)
        finishing.add_done_callback(self._finishing.discard)

    async def _answer(self, chunk: Chunk) -> Answers:
        records = chunk.records
        batch = Batch(
            [r.offset for r in records], [r.key for r in records], [r.value for r in records]
        )
        if self._answerer.seconds(batch) < SLOW_SECONDS:
            return self._answerer.answer(chunk.partition, batch)
        answers: Answers = await application.off_loop(self._answerer.answer, chunk.partition, batch)
        return answers

    async def _finish(self, event: Any, deliveries: list[Awaitable[Any]]) -> None:
        try:
            async with asyncio.timeout(self._settings.delivery_timeout):
                for delivery in deliveries:
                    await delivery
        except Exception as e:  # the outermost edge: without an ack the chunk is read again
            application.fail("publishing results", e)
        event.ack()
        self._slots.release()


def _traces(chunk: Chunk, letters: list[DeadLetter]) -> list[list[tuple[str, bytes]]]:
    """The trace header of each record that has a result, or nothing if no record has any."""
    if not any(record.headers for record in chunk.records):
        return []
    dead = {letter.offset for letter in letters}
    return [
        [(name, value) for name, value in record.headers if name == TRACE_HEADER and value]
        for record in chunk.records
        if record.offset not in dead
    ]


def _headers(chunk: Chunk, letter: DeadLetter) -> list[tuple[str, bytes]]:
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

    return app


app = create_app(config.load_or_exit())
