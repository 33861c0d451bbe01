"""What the logs and the projection hold, read by another client library than the product's."""

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, TopicPartition

from infra.config import Settings
from streams.events import is_id
from streams.topics import DEAD_LETTERS, RESULTS, TASKS
from tests.chaos.history import Event, Observed, Place, ResultRecord, Row, TaskRecord

READ_SECONDS = 30.0


class CannotRead(Exception):
    """A log could not be read to its end; the harness has nothing to judge."""


def read_topic(settings: Settings, topic: str, partitions: int) -> list[Any]:
    """All records from offset 0 to each partition's end, by partition and offset."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.bootstrap,
            "group.id": "chaos-reads-without-a-group",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    records: list[Any] = []
    open_partitions = set(range(partitions))
    deadline = time.monotonic() + READ_SECONDS
    with contextlib.closing(consumer):
        while open_partitions:
            if time.monotonic() > deadline:
                raise CannotRead(f"{topic} not read to its end in {READ_SECONDS:g} s")
            for record in consumer.consume(1000, timeout=0.5):
                error = record.error()
                if error is None:
                    records.append(record)
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(record.partition())
    return sorted(records, key=_place)


def _place(record: Any) -> Place:
    return record.partition(), record.offset()


def _task(record: Any) -> TaskRecord:
    key = (record.key() or b"").decode()
    return TaskRecord(_place(record), key, is_id(key))


def _result(record: Any) -> ResultRecord:
    value = msgspec.json.decode(record.value())
    task = value["task"]["partition"], value["task"]["offset"]
    error = value.get("error")
    return ResultRecord(_place(record), value["id"], task, value.get("y"), error and error["code"])


def _letter(record: Any) -> Place:
    headers = dict(record.headers())
    return int(headers["petal-partition"]), int(headers["petal-offset"])


def read_rows(database: Path) -> tuple[list[Row], str]:
    """The projection's rows, and what SQLite's own check says of the file."""
    query = 'SELECT task_id, partition, "offset", y FROM result'
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        rows = [
            Row(task_id, (partition, offset), y and msgspec.json.decode(y))
            for task_id, partition, offset, y in db.execute(query)
        ]
        return rows, str(db.execute("PRAGMA integrity_check").fetchone()[0])


def gather(settings: Settings, history: list[Event]) -> Observed:
    """All that the verdict rests on. The broker must be up."""
    count = settings.partitions
    rows, integrity = read_rows(settings.database)
    return Observed(
        history,
        [_task(r) for r in read_topic(settings, TASKS, count)],
        [_result(r) for r in read_topic(settings, RESULTS, count)],
        [_letter(r) for r in read_topic(settings, DEAD_LETTERS, 1)],
        rows,
        integrity=integrity,
    )
