"""The contents of the logs and the projection, read with another client library than ours."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from infra.config import Settings
from infra.topics import DEAD_LETTERS, RESULTS, TASKS, TRACE_HEADER
from streams.events import is_id
from tests.chaos.checks import replay
from tests.chaos.checks.observed import (
    Observed,
    Projected,
    ResultRecord,
    TaskRecord,
    Usage,
    unread,
)
from tests.chaos.history import Event, Place

READ_SECONDS = 30.0
ASK_SECONDS = 5.0
HOUR = 3600 * 10**9  # a run takes less than half of it
FEATURES = 2  # of the fingerprint model
MAX_READ_RECORDS = 2000


class CannotRead(Exception):
    """A log could not be read to its end, so there is no verdict."""


class LogReader:
    """Reads the topics; each `read` continues at the previous one's end. Not thread-safe.

    `deleted`: records of `results` that the log does not have any more.
    """

    def __init__(self, settings: Settings, deleted: Sequence[Any] = ()) -> None:
        self.records: dict[str, list[Any]] = {TASKS: [], RESULTS: [*deleted], DEAD_LETTERS: []}
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.bootstrap,
                "group.id": "chaos-reads-without-a-group",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
                "reconnect.backoff.max.ms": 500,
                "error_cb": lambda _error: None,  # `consume` returns the error too
                "log_level": 0,
            }
        )
        topics = {TASKS: settings.partitions, RESULTS: settings.partitions, DEAD_LETTERS: 1}
        self._partitions = [(topic, p) for topic, count in topics.items() for p in range(count)]
        self._open = set(self._partitions)
        self._consumer.assign([TopicPartition(topic, p, 0) for topic, p in self._partitions])

    def close(self) -> None:
        self._consumer.close()

    def read_to_end(self) -> None:
        """Read until the end of each partition was reached once; raises CannotRead."""
        deadline = time.monotonic() + READ_SECONDS
        while self._open:
            if time.monotonic() > deadline:
                raise CannotRead(f"{sorted(self._open)} not read to the end in {READ_SECONDS:g} s")
            self.read(0.5)

    def read(self, seconds: float) -> None:
        """Read at most MAX_READ_RECORDS records; waits up to `seconds` for the first one."""
        for record in self._consumer.consume(MAX_READ_RECORDS, timeout=seconds):
            error = record.error()
            if error is None:
                self.records[record.topic()].append(record)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._open.discard((record.topic(), record.partition()))

    def has_all_tasks(self) -> bool:
        """Whether `records` has every task that the log has now; False while the broker is away."""
        read = _ends(self.records[TASKS])
        for topic, partition in self._partitions:
            if topic == TASKS:
                try:
                    _, end = self._consumer.get_watermark_offsets(
                        TopicPartition(topic, partition), timeout=ASK_SECONDS
                    )
                except KafkaException:
                    return False
                if read.get(partition, 0) < end:
                    return False
        return True


def distinct(records: Iterable[Any]) -> Iterator[Any]:
    """The records without those that were read twice: of one place, with the same bytes.

    A log that lost its leader may for a moment have records again that were deleted, or end early,
    and then a reader begins again. A place with other bytes than before is a lost record.
    """
    seen = set()
    for record in records:
        same = (record.partition(), record.offset(), record.key(), record.value())
        if same not in seen:
            seen.add(same)
            yield record


def place_of(record: Any) -> Place:
    return record.partition(), record.offset()


def _trace(record: Any) -> bytes | None:
    value = dict(record.headers() or ()).get(TRACE_HEADER)
    return None if value is None else bytes(value)


def _monotonic(record: Any) -> int:
    """A record's timestamp on the history's clock, in monotonic nanoseconds.

    The embedded broker keeps the time of the producer, whose clock may be whole hours off.
    """
    _, ms = record.timestamp()
    now, t = time.time_ns(), int(ms) * 1_000_000
    t += round((now - t) / HOUR) * HOUR
    return t - (now - time.monotonic_ns())


def task_of(record: Any) -> TaskRecord:
    """Parse a record of `tasks`; computes the right answer to its rows."""
    key = (record.key() or b"").decode()
    valid = is_id(key)
    y = None
    if valid:
        X = msgspec.json.decode(record.value())["X"]
        y = [round(row[0]) for row in X] if all(len(row) == FEATURES for row in X) else None
    return TaskRecord(place_of(record), key, valid, y, _monotonic(record), _trace(record))


def result_of(record: Any) -> ResultRecord:
    value = msgspec.json.decode(record.value())
    error = value.get("error")
    return ResultRecord(
        place_of(record),
        value["id"],
        (value["task"]["partition"], value["task"]["offset"]),
        value.get("y"),
        error and error["code"],
        value.get("input"),
        int(value["worker"].rpartition("-")[2]),
        _monotonic(record),
        record.timestamp()[1],
        _trace(record),
        value["ms"]["queue"],
    )


def letter_of(record: Any) -> Place:
    """The place in `tasks` of a dead letter's record."""
    headers = dict(record.headers())
    return int(headers["petal-partition"]), int(headers["petal-offset"])


def altered_letters(letters: Sequence[Any], tasks: Sequence[Any]) -> list[Place]:
    """The places in `tasks` of the dead letters whose key or value differ from the task's."""
    at = {place_of(task): (task.key(), task.value()) for task in tasks}
    return [
        place
        for letter in letters
        if (letter.key(), letter.value()) != at.get(place := letter_of(letter), ())
    ]


def is_done(records: Mapping[str, Sequence[Any]], stored: Mapping[int, int]) -> bool:
    """Whether every task has a result or dead letter, and the database has every result."""
    answered = {result_of(r).task for r in records[RESULTS]}
    answered |= {letter_of(r) for r in records[DEAD_LETTERS]}
    ends = _ends(records[RESULTS])
    return answered >= {place_of(r) for r in records[TASKS]} and all(
        stored.get(partition, 0) >= end for partition, end in ends.items()
    )


def _ends(records: Sequence[Any]) -> dict[int, int]:
    ends: dict[int, int] = {}
    for record in records:
        ends[record.partition()] = max(record.offset() + 1, ends.get(record.partition(), 0))
    return ends


def gather(
    settings: Settings,
    log: str,
    history: Sequence[Event],
    usage: Sequence[Usage],
    deleted: Sequence[Any] = (),
) -> Observed:
    """Collect all inputs of the verdict. Only the broker may run.

    `deleted`: see `LogReader`.
    """
    with contextlib.closing(LogReader(settings, deleted)) as reader:
        reader.read_to_end()
    records = {
        topic: sorted(distinct(found), key=place_of) for topic, found in reader.records.items()
    }
    observed = Observed(
        history,
        [task_of(r) for r in records[TASKS]],
        [result_of(r) for r in records[RESULTS]],
        [letter_of(r) for r in records[DEAD_LETTERS]],
        Projected([]),
        _ends(records[RESULTS]),
        usage,
        altered=altered_letters(records[DEAD_LETTERS], records[TASKS]),
    )
    never_read = unread(observed)
    return observed._replace(
        database=replay.project(
            settings.database,
            log,
            records[RESULTS],
            [r for r in records[RESULTS] if place_of(r) not in never_read],
        )
    )


def stored_offsets(database: Path, log: str) -> Mapping[int, int]:
    """The next offset of each partition in the database; empty while it is unreadable."""
    return replay.offsets(database, log)
