"""A usual batch loop over confluent-kafka, tuned in nothing but the size of the batch.

Batches of 2,000 records, orjson, one vectorised prediction, results as dicts. Every delivery is
awaited before the offsets are committed. The producer has the client's default settings, which
wait for all replicas.
"""

from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaException, Producer

from tests.benchmarks.peers.model import Model, digest, queue_ms, slices
from tests.benchmarks.peers.settings import BOOTSTRAP, RESULTS, TASKS, WORKER

BATCH_RECORDS = 2000
BATCH_SECONDS = 0.05


def handle(model: Model, producer: Producer, messages: list[Any]) -> None:
    """Process one batch and await every delivery; raises KafkaException if one failed."""
    failed: list[Any] = []

    def delivered(error: Any, _message: Any) -> None:
        if error is not None:
            failed.append(error)

    tasks = [orjson.loads(message.value()) for message in messages]
    prediction = model.predict([row for task in tasks for row in task["X"]])
    parts = slices([len(task["X"]) for task in tasks])
    for message, task, part in zip(messages, tasks, parts, strict=True):
        result = {
            "v": 1,
            "id": task["id"],
            "y": prediction.y[part],
            "proba": prediction.proba[part],
            "input": digest(task["X"]),
            "model": model.id,
            "worker": WORKER,
            "task": {"partition": message.partition(), "offset": message.offset()},
            "ms": {"queue": queue_ms(task["at"]), "infer": prediction.ms},
        }
        value = orjson.dumps(result)
        producer.produce(RESULTS, value, message.key(), message.partition(), on_delivery=delivered)
        producer.poll(0)
    producer.flush()
    if failed:
        raise KafkaException(failed[0])


def main() -> None:
    """Run until killed."""
    model = Model()
    consumer = Consumer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": "plain",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer({"bootstrap.servers": BOOTSTRAP})
    consumer.subscribe([TASKS])
    while True:
        messages = [m for m in consumer.consume(BATCH_RECORDS, BATCH_SECONDS) if not m.error()]
        if messages:
            handle(model, producer, messages)
            consumer.commit(asynchronous=False)


if __name__ == "__main__":
    main()
