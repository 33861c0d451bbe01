"""A small client that measures round trips; it is the same for every worker."""

import time
from typing import NamedTuple, Self

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from infra.config import Settings
from infra.topics import RESULTS, TASKS
from streams.client import encode_task
from streams.events import new_id
from tests.benchmarks.backlog import log_end, make_row

RESULT_SECONDS = 60.0


class NoResult(Exception):
    """A task got no result in time."""


class RoundTrip(NamedTuple):
    """The time from the call that publishes a task to the arrival of its result, and the result.

    Milliseconds; the result as bytes.
    """

    ms: float
    value: bytes


class RoundTripClient:
    """Publishes tasks and awaits each one's own result. A context manager."""

    def __init__(self, settings: Settings) -> None:
        self._partitions = settings.partitions
        # As librdkafka's documentation advises for low latency.
        low_latency = {"bootstrap.servers": settings.bootstrap, "socket.nagle.disable": True}
        self._producer = Producer({**low_latency, "linger.ms": 0})
        self._consumer = Consumer(
            {
                **low_latency,
                "group.id": "benchmark",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": settings.fetch_wait_ms,
            }
        )
        self._published: dict[bytes, float] = {}
        self._count = 0

    def __enter__(self) -> Self:
        """Seek to the end of `results` before a task is published.

        The embedded broker may return an offset before the end. The client then also reads
        older results, and ignores them.
        """
        partitions = [TopicPartition(RESULTS, p) for p in range(self._partitions)]
        for tp in partitions:
            tp.offset = log_end(self._consumer, tp)
        self._consumer.assign(partitions)
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.flush(10)
        self._consumer.close()

    def measure(self, trips: int, in_flight: int) -> list[RoundTrip]:
        """Make `trips` round trips, `in_flight` of them at any time; raises NoResult."""
        self._published.clear()
        done: list[RoundTrip] = []
        for _ in range(min(in_flight, trips)):
            self._publish()
        while len(done) < trips:
            done.append(self._next())
            if len(done) + len(self._published) < trips:
                self._publish()
        return done

    def _publish(self) -> None:
        self._count += 1
        task_id = new_id()
        value = encode_task([make_row(self._count)], task_id)
        self._published[task_id.encode()] = time.perf_counter()
        self._producer.produce(TASKS, value, task_id, partition=self._count % self._partitions)
        self._producer.poll(0)

    def _next(self) -> RoundTrip:
        """Wait for the next result of a published task."""
        deadline = time.monotonic() + RESULT_SECONDS
        while time.monotonic() < deadline:
            message = self._consumer.poll(1.0)
            now = time.perf_counter()
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            published = self._published.pop(message.key(), None)
            if published is not None:
                return RoundTrip((now - published) * 1000, message.value())
        raise NoResult(f"{len(self._published)} tasks have no result after {RESULT_SECONDS:g} s")
