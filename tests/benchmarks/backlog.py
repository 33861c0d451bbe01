"""A backlog of tasks in the log, and the reading of its results."""

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
    """The n-th flower, within the ranges of iris."""
    return [4.3 + n % 36 / 10, 2.0 + n % 24 / 10, 1.0 + n % 59 / 10, 0.1 + n % 24 / 10]


def fill(settings: Settings, tasks: int, rows: int = 1) -> None:
    """Publish tasks of so many rows each, spread over the partitions."""
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
        raise RuntimeError("the broker did not take all tasks")


def log_end(consumer: Consumer, tp: TopicPartition) -> int:
    """The offset after a partition's last record. The embedded broker is short by up to a
    batch; Apache Kafka may refuse for a moment after the topic was made."""
    deadline = time.monotonic() + LEADER_SECONDS
    while True:
        try:
            return int(consumer.get_watermark_offsets(tp, timeout=10)[1])
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


class Results:
    """Reads `results` from its beginning, each time from where it stopped before.

    Each call gets `check`, which is called again and again and may raise.
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
        """Disconnect."""
        self._consumer.close()

    @property
    def seen(self) -> int:
        """How many records were read."""
        return sum(self._next.values())

    def end(self) -> int:
        """How many records there are. See `log_end`."""
        return sum(log_end(self._consumer, TopicPartition(RESULTS, p)) for p in self._next)

    def wait(self, count: int, check: Callable[[], None], poll: float = POLL_SECONDS) -> None:
        """Wait until `count` records lie beyond those read, or no more come for a while.

        Nothing is read meanwhile, so whoever is measured is not disturbed.
        """
        end, since = self.end(), time.monotonic()
        while end < self.seen + count and time.monotonic() - since < QUIET_SECONDS:
            check()
            time.sleep(poll)
            if (now := self.end()) != end:
                end, since = now, time.monotonic()

    def read(self, count: int, check: Callable[[], None]) -> Iterator[Message]:
        """The next `count` records, and those that came along with the last of them."""
        self._consumer.assign([TopicPartition(RESULTS, p, n) for p, n in self._next.items()])
        wanted = self.seen + count
        while self.seen < wanted:
            check()
            for record in self._consumer.consume(10_000, 0.5):
                if not record.error():
                    self._next[record.partition()] = record.offset() + 1
                    yield record
        # An idle consumer would go on fetching.
        self._consumer.unassign()

    def pairs(self, count: int, check: Callable[[], None]) -> Iterator[tuple[int, bytes]]:
        """`read` as timestamps in milliseconds and values."""
        return ((r.timestamp()[1], r.value()) for r in self.read(count, check))
