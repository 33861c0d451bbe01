"""The loop of the tutorials: poll one message, predict one row, produce, and so on.

Flushed and committed every 1,000 messages, or where the topic is read to its end.
"""

from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaException, Producer

from tests.benchmarks.peers.answer import Model, digest, queue_ms
from tests.benchmarks.peers.settings import BOOTSTRAP, RESULTS, TASKS, WORKER

COMMIT_EVERY = 1000
POLL_SECONDS = 0.5


def answer(model: Model, message: Any) -> bytes:
    """The result of one task, as JSON."""
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
    """End the process where a delivery failed: its task must be read again."""
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
            value = answer(model, message)
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
