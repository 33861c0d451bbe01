"""An idiomatic Faust application: typed records, `take`, one vectorised prediction per batch.

The transport is Faust's own. `take_events` is `take` with the positions of the messages, which a
result must contain. orjson is installed, as Faust's documentation advises, and Faust uses it.
The worker runs on uvloop.
"""

import asyncio
from typing import Any

import faust

from tests.benchmarks.peers.model import Model, digest, queue_ms, slices
from tests.benchmarks.peers.settings import BOOTSTRAP, RESULTS, TASKS, WORKER

BATCH_RECORDS = 1000
BATCH_SECONDS = 0.05


class Task(faust.Record):
    """A task, as in `streams.events`."""

    v: int
    id: str
    X: list[list[float]]
    at: float


class Position(faust.Record):
    """The task's place in its topic."""

    partition: int
    offset: int


class Timings(faust.Record):
    """Milliseconds."""

    queue: float
    infer: float


class Result(faust.Record):
    """A result, as in `streams.events`."""

    v: int
    id: str
    y: list[str]
    proba: list[list[float]]
    input: str
    model: str
    worker: str
    task: Position
    ms: Timings


app = faust.App(
    "faust-take",
    broker=f"kafka://{BOOTSTRAP}",
    consumer_auto_offset_reset="earliest",
    # On the embedded broker a client cannot create topics, nor elect a leader through one.
    topic_allow_declare=False,
    topic_disable_leader=True,
    datadir="var/benchmarks/faust-take",
)
tasks = app.topic(TASKS, key_type=bytes, value_type=Task)
results = app.topic(RESULTS, key_type=bytes, value_type=Result)
model = Model()


@app.agent(tasks)
async def infer(stream: Any) -> None:
    """Process batch by batch; a batch is acknowledged when all its results are delivered."""
    async for events in stream.take_events(BATCH_RECORDS, within=BATCH_SECONDS):
        batch = [event.value for event in events]
        prediction = model.predict([row for task in batch for row in task.X])
        parts = slices([len(task.X) for task in batch])
        sent = [
            await results.send(
                key=event.key,
                value=Result(
                    v=1,
                    id=task.id,
                    y=prediction.y[part],
                    proba=prediction.proba[part],
                    input=digest(task.X),
                    model=model.id,
                    worker=WORKER,
                    task=Position(event.message.partition, event.message.offset),
                    ms=Timings(queue_ms(task.at), prediction.ms),
                ),
            )
            for event, task, part in zip(events, batch, parts, strict=True)
        ]
        await asyncio.gather(*sent)
