"""Publishes a backlog of tasks, and reads its results."""

import time
from collections.abc import Callable, Iterator

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from infra.config import Settings
from infra.topics import RESULTS, TASKS
from streams.client import encode_task
from streams.events import new_id

POLL_SECONDS = 0.25
QUIET_SECONDS = 2.0
LEADER_SECONDS = 15.0


def make_row(n: int) -> list[float]:
    """The n-th row, within the ranges of iris."""
    return [4.3 + n % 36 / 10, 2.0 + n % 24 / 10, 1.0 + n % 59 / 10, 0.1 + n % 24 / 10]


def fill(settings: Settings, tasks: int, rows: int = 1) -> None:
    """Publish tasks of `rows` rows each, spread over the partitions."""
    producer = Producer(
        {
            "bootstrap.servers": settings.bootstrap,
            "linger.ms": 20,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    for n in range(tasks):
        task_id = new_id()
        value = encode_task([make_row(n + m) for m in range(rows)], task_id)
        producer.produce(TASKS, value, task_id, partition=n % settings.partitions)
        if n % 10_000 == 0:
            producer.poll(0)
    if producer.flush(60):
        raise RuntimeError("the broker did not confirm all tasks within 60 s")


def log_end(consumer: Consumer, tp: TopicPartition) -> int:
    """The offset after a partition's last record.

    The embedded broker's answer is too low by up to one batch. Apache Kafka may refuse for a
    moment after the topic was created, so the request is retried.
    """
    deadline = time.monotonic() + LEADER_SECONDS
    while True:
        try:
            return int(consumer.get_watermark_offsets(tp, timeout=10)[1])
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


class Results:
    """Reads `results` from its beginning; each call continues where the previous one stopped.

    A method that waits calls its `check` repeatedly; `check` raises to end the waiting.
    """

    def __init__(self, settings: Settings) -> None:
        self._next = dict.fromkeys(range(settings.partitions), 0)
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.bootstrap,
                "group.id": "benchmark",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )

    def close(self) -> None:
        self._consumer.close()

    @property
    def seen(self) -> int:
        """The number of records read so far."""
        return sum(self._next.values())

    def end(self) -> int:
        """The number of records in the topic; may be too low, see `log_end`."""
        return sum(log_end(self._consumer, TopicPartition(RESULTS, p)) for p in self._next)

    def wait(self, count: int, check: Callable[[], None], poll: float = POLL_SECONDS) -> None:
        """Wait until there are `count` more records than were read, or no more arrive.

        It reads nothing, so that it does not disturb the measured process.
        """
        end, since = self.end(), time.monotonic()
        while end < self.seen + count and time.monotonic() - since < QUIET_SECONDS:
            check()
            time.sleep(poll)
            if (now := self.end()) != end:
                end, since = now, time.monotonic()

    def read(self, count: int, check: Callable[[], None]) -> Iterator[Message]:
        """The next `count` records, and any others fetched together with the last of them."""
        self._consumer.assign([TopicPartition(RESULTS, p, n) for p, n in self._next.items()])
        wanted = self.seen + count
        while self.seen < wanted:
            check()
            for record in self._consumer.consume(10_000, 0.5):
                if not record.error():
                    self._next[record.partition()] = record.offset() + 1
                    yield record
        # An assigned consumer fetches even when idle.
        self._consumer.unassign()

    def pairs(self, count: int, check: Callable[[], None]) -> Iterator[tuple[int, bytes]]:
        """Like `read`, as (timestamp in milliseconds, value)."""
        return ((r.timestamp()[1], r.value()) for r in self.read(count, check))
