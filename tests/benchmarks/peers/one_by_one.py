"""The loop of the tutorials: poll one message, predict one row, produce one result.

It flushes and commits every 1,000 messages, and at the end of the topic.
"""

from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaException, Producer

from tests.benchmarks.peers.model import Model, digest, queue_ms
from tests.benchmarks.peers.settings import BOOTSTRAP, RESULTS, TASKS, WORKER

COMMIT_EVERY = 1000
POLL_SECONDS = 0.5


def predict(model: Model, message: Any) -> bytes:
    """Predict one task; returns its result as JSON."""
    task = orjson.loads(message.value())
    y, proba, ms = model.predict(task["X"])
    return orjson.dumps(
        {
            "v": 1,
            "id": task["id"],
            "y": y,
            "proba": proba,
            "input": digest(task["X"]),
            "model": model.id,
            "worker": WORKER,
            "task": {"partition": message.partition(), "offset": message.offset()},
            "ms": {"queue": queue_ms(task["at"]), "infer": ms},
        }
    )


def delivered(error: Any, _message: Any) -> None:
    """End the process if a delivery failed, so that its task is read again."""
    if error is not None:
        raise KafkaException(error)


def main() -> None:
    """Run until killed."""
    model = Model()
    consumer = Consumer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": "one-by-one",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer({"bootstrap.servers": BOOTSTRAP})
    consumer.subscribe([TASKS])
    pending = 0
    while True:
        message = consumer.poll(POLL_SECONDS)
        if message is not None and not message.error():
            value = predict(model, message)
            producer.produce(
                RESULTS, value, message.key(), message.partition(), on_delivery=delivered
            )
            producer.poll(0)
            pending += 1
        if pending >= COMMIT_EVERY or (message is None and pending):
            producer.flush()
            consumer.commit(asynchronous=False)
            pending = 0


if __name__ == "__main__":
    main()
