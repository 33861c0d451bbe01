"""The roofline: a raw copy from `tasks` to `results` by librdkafka, without JSON, without a model.

Keys, values and partitions stay as they are. As in every worker here, each delivery is confirmed
before the offsets are committed. The settings are those of `confluent_best.py`, but only failed
deliveries call Python.
"""

from typing import Any

from confluent_kafka import KafkaException, TopicPartition

from infra import config
from infra.process.gc import relax_garbage_collector
from tests.benchmarks.confluent_best import BATCH_RECORDS, clients

POLL_SECONDS = 0.02


def fail(error: Any, _message: Any) -> None:
    """Called for a delivery that failed; ends the process."""
    raise KafkaException(error)


def main() -> None:
    """Run until killed."""
    settings = config.load_or_exit()
    tasks, results = settings.names.tasks, settings.names.results
    errors_only = {"delivery.report.only.error": True, "on_delivery": fail}
    consumer, producer = clients(settings, **errors_only)
    consumer.subscribe([tasks])
    relax_garbage_collector()
    while True:
        messages = [m for m in consumer.consume(BATCH_RECORDS, POLL_SECONDS) if not m.error()]
        for m in messages:
            producer.produce(results, m.value(), m.key(), m.partition())
        producer.flush()
        if messages:
            last = {m.partition(): m.offset() + 1 for m in messages}
            offsets = [TopicPartition(tasks, p, o) for p, o in last.items()]
            consumer.commit(offsets=offsets, asynchronous=False)


if __name__ == "__main__":
    main()
