"""A lean client that measures round trips, the same for whoever answers."""

import time
from typing import NamedTuple, Self

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from infra.config import Settings
from infra.topics import RESULTS, TASKS
from streams.client import encode_task
from streams.events import new_id
from tests.benchmarks.backlog import log_end, make_row

ANSWER_SECONDS = 60.0


class NoAnswer(Exception):
    """A task was not answered in time."""


class Trip(NamedTuple):
    """A round trip in milliseconds, from the call that publishes to the result in hand."""

    ms: float
    value: bytes


class Asker:
    """Publishes tasks and awaits each one's own result. A context manager."""

    def __init__(self, settings: Settings) -> None:
        self._partitions = settings.partitions
        # As librdkafka's documentation advises for low latency.
        quick = {"bootstrap.servers": settings.bootstrap, "socket.nagle.disable": True}
        self._producer = Producer({**quick, "linger.ms": 0})
        self._consumer = Consumer(
            {
                **quick,
                "group.id": "benchmark",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": settings.fetch_wait_ms,
            }
        )
        self._asked: dict[bytes, float] = {}
        self._count = 0

    def __enter__(self) -> Self:
        """The reader has its positions before anything is asked. The embedded broker may
        place it early; then it reads answers that nobody waits for."""
        partitions = [TopicPartition(RESULTS, p) for p in range(self._partitions)]
        for tp in partitions:
            tp.offset = log_end(self._consumer, tp)
        self._consumer.assign(partitions)
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.flush(10)
        self._consumer.close()

    def ask(self, trips: int, in_flight: int) -> list[Trip]:
        """So many round trips with so many tasks under way at any time; raises NoAnswer."""
        self._asked.clear()
        done: list[Trip] = []
        for _ in range(min(in_flight, trips)):
            self._publish()
        while len(done) < trips:
            trip = self._next()
            done.append(trip)
            if len(done) + len(self._asked) < trips:
                self._publish()
        return done

    def _publish(self) -> None:
        self._count += 1
        task_id = new_id()
        value = encode_task([make_row(self._count)], task_id)
        self._asked[task_id.encode()] = time.perf_counter()
        self._producer.produce(TASKS, value, task_id, partition=self._count % self._partitions)
        self._producer.poll(0)

    def _next(self) -> Trip:
        """The next result that was waited for."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            message = self._consumer.poll(1.0)
            now = time.perf_counter()
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            asked = self._asked.pop(message.key(), None)
            if asked is not None:
                return Trip((now - asked) * 1000, message.value())
        raise NoAnswer(f"{len(self._asked)} tasks without an answer in {ANSWER_SECONDS:g} s")
