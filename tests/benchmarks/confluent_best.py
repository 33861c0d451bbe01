"""The fastest hand-written worker over confluent-kafka, for the throughput benchmark.

A batch loop over librdkafka. It uses the worker's own functions to decode, predict and encode,
and keeps the same keys, partitions and guarantees: every delivery is confirmed before the
offsets are committed. Batches of up to 10,000 records and a relaxed garbage collector were the
fastest settings in trials.
"""

import os
import socket
from collections import defaultdict
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from threadpoolctl import threadpool_limits

from infra import config
from infra.config import Settings
from infra.process.gc import relax_garbage_collector
from infra.topics import RESULTS, TASKS
from model import artifact
from streams.processing.processor import Processor
from streams.records import Columns

BATCH_RECORDS = 10_000


def clients(settings: Settings, **more: Any) -> tuple[Consumer, Producer]:
    """Consumer and producer with librdkafka's settings for throughput; `more` of the producer."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.bootstrap,
            "group.id": "confluent-best",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": settings.fetch_wait_ms,
            "fetch.message.max.bytes": 4_000_000,
            "queued.min.messages": 200_000,
            "session.timeout.ms": 6000,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": settings.bootstrap,
            "acks": "all",
            "enable.idempotence": settings.producer_idempotence,
            "linger.ms": 5,
            "batch.size": 900_000,
            "batch.num.messages": 100_000,
            "queue.buffering.max.messages": 1_000_000,
            **more,
        }
    )
    return consumer, producer


def handle(processor: Processor, producer: Producer, messages: list[Any]) -> None:
    """Answer one batch and await every delivery."""
    failed: list[Any] = []

    def delivered(error: Any, _message: Any) -> None:
        if error is not None:
            failed.append(error)

    by_partition: dict[int, list[Any]] = defaultdict(list)
    for message in messages:
        by_partition[message.partition()].append(message)
    for partition, part in by_partition.items():
        batch = Columns(
            [m.offset() for m in part], [m.key() for m in part], [m.value() for m in part]
        )
        for key, value in processor.process(partition, batch).results:
            producer.produce(RESULTS, value, key, partition, on_delivery=delivered)
        producer.poll(0)
    producer.flush()
    if failed:
        raise KafkaException(failed[0])


def main() -> None:
    """Run until killed."""
    settings = config.load_or_exit()
    name = f"{socket.gethostname()}-{os.getpid()}"
    processor = Processor(artifact.load(settings.model), name, settings.max_rows)
    consumer, producer = clients(settings)
    consumer.subscribe([TASKS])
    threadpool_limits(1)
    relax_garbage_collector()
    while True:
        messages = [m for m in consumer.consume(BATCH_RECORDS, 0.02) if not m.error()]
        if not messages:
            continue
        handle(processor, producer, messages)
        last = {m.partition(): m.offset() + 1 for m in messages}
        consumer.commit(
            offsets=[TopicPartition(TASKS, p, o) for p, o in last.items()], asynchronous=False
        )


if __name__ == "__main__":
    main()
