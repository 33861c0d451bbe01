"""A FastStream application over its confluent-kafka broker: batches in, batches out.

Its documentation advises these for speed: msgspec in place of pydantic, orjson, uvloop, and the
per-message keys of `KafkaPublishMessage`. `NACK_ON_ERROR` commits after the handler, and the
handler returns when every result is delivered. So delivery is at least once, as in the others.
"""

import msgspec
from fast_depends.msgspec import MsgSpecSerializer
from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker, KafkaPublishMessage
from faststream.confluent.annotations import KafkaMessage

from tests.benchmarks.peers.model import Model, digest, queue_ms, slices
from tests.benchmarks.peers.settings import BOOTSTRAP, RESULTS, TASKS, WORKER

BATCH_RECORDS = 2000


class Task(msgspec.Struct):
    """A task, as in `streams.events`."""

    v: int
    id: str
    X: list[list[float]]
    at: float


class Position(msgspec.Struct):
    """The task's place in its topic."""

    partition: int
    offset: int


class Timings(msgspec.Struct):
    """Milliseconds."""

    queue: float
    infer: float


class Result(msgspec.Struct):
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


broker = KafkaBroker(BOOTSTRAP, serializer=MsgSpecSerializer(), allow_auto_create_topics=False)
app = FastStream(broker)
model = Model()


@broker.subscriber(
    TASKS,
    group_id="faststream",
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.NACK_ON_ERROR,
    batch=True,
    max_records=BATCH_RECORDS,
)
async def infer(body: list[Task], message: KafkaMessage) -> None:
    """Process one batch; returns when the broker has confirmed all results."""
    prediction = model.predict([row for task in body for row in task.X])
    parts = slices([len(task.X) for task in body])
    results = [
        KafkaPublishMessage(
            Result(
                v=1,
                id=task.id,
                y=prediction.y[part],
                proba=prediction.proba[part],
                input=digest(task.X),
                model=model.id,
                worker=WORKER,
                task=Position(raw.partition(), raw.offset()),
                ms=Timings(queue_ms(task.at), prediction.ms),
            ),
            key=raw.key(),
        )
        for raw, task, part in zip(message.raw_message, body, parts, strict=True)
    ]
    await broker.publish_batch(*results, topic=RESULTS)
