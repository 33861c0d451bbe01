"""Operations on the log: compare it with the database, ask again what was never answered."""

import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer

from infra.broker import admin
from infra.config import Settings
from infra.topics import DEAD_LETTERS, MAX_RESULT_BYTES, RESULTS, TASKS
from streams.codec import DECODE_ERRORS, decode_result
from streams.errors import StoreError
from streams.maintenance.scan import open_log
from streams.projection.reader import Reader, to_result
from streams.records import Chunk

Progress = Callable[[int, int], None]  # records read, records in all


class Verified(NamedTuple):
    """What differs between `results` and the database; task ids, or positions without one.

    `missing`: a record in no table. `different`: a row that is not its record's answer.
    `extra`: a row, of this log and of an offset that the log still has, without its record.
    `pending`: records that the sink has not read yet. `expired`: rows older than the log.
    `conflicts`: answers to tasks that came with the id of another task; the first task's stays.
    """

    records: int
    missing: list[str]
    different: list[str]
    extra: list[str]
    pending: int
    expired: int
    consistent: bool
    conflicts: int

    @property
    def agrees(self) -> bool:
        """Whether the database is the log's projection, as far as it has read."""
        return self.consistent and not (self.missing or self.different or self.extra)


async def verify(settings: Settings, progress: Progress) -> Verified:
    """Compare every record of `results` with the tables, by position.

    Raises StoreError if there is no database or it has never seen this log.
    """
    cluster = await admin.prepare(settings)
    done = pending = 0
    missing: list[str] = []
    different: list[str] = []
    extra: list[str] = []
    with Reader(settings.database) as reader:
        log_id = reader.log_id(cluster)
        if log_id is None:
            raise StoreError(f"{settings.database} has nothing of this broker's log; start a sink")
        stored = reader.next_offsets(log_id)
        async with open_log(settings, RESULTS) as log:
            async for part in log.chunks():
                known = [r for r in part.records if r.offset < stored.get(part.partition, 0)]
                pending += len(part.records) - len(known)
                if known:
                    found = _compare(reader, log_id, part._replace(records=known))
                    for ids, more in zip((missing, different, extra), found, strict=True):
                        ids += more
                done += len(part.records)
                progress(done, log.records)
            expired = reader.count_below(log_id, log.starts)
        audit = reader.audit()
    return Verified(
        done, missing, different, extra, pending, expired, audit.consistent, audit.conflicts
    )


def _compare(reader: Reader, log_id: int, part: Chunk) -> tuple[list[str], list[str], list[str]]:
    """Of one slice: (missing, different, extra)."""
    last = part.records[-1].offset
    rows = {row["offset"]: row for row in reader.between(log_id, part.partition, part.first, last)}
    elsewhere = reader.other_offsets(log_id, part.partition, part.first, last)
    missing, different = [], []
    for record in part.records:
        row = rows.pop(record.offset, None)
        if row is None:
            if record.offset not in elsewhere:
                missing.append(_name(part.partition, record))
        elif not _is_answer(row, record.value):
            different.append(row["task_id"])
    return missing, different, [row["task_id"] for row in rows.values()]


def _name(partition: int, record: Any) -> str:
    return record.key.decode("utf-8", "replace") if record.key else f"{partition}:{record.offset}"


def _is_answer(row: dict[str, Any], value: bytes | None) -> bool:
    try:
        result = decode_result(value or b"")
        return to_result(row) == result and row["task_id"] == result.id
    except DECODE_ERRORS:
        return False


class Unanswered(NamedTuple):
    """A task without a result or a dead letter, as it stands in `tasks`."""

    partition: int
    key: bytes | None
    value: bytes | None
    task_id: str


async def unanswered(settings: Settings, older_than: float) -> list[Unanswered]:
    """Tasks that have waited for `older_than` seconds and have no end yet.

    By the records' timestamps: a task's age is not its correctness.
    """
    await admin.prepare(settings)
    before_ms = (time.time() - older_than) * 1000
    async with open_log(settings, RESULTS) as log:
        answered = {r.key async for part in log.chunks() for r in part.records}
    async with open_log(settings, DEAD_LETTERS) as log:
        dead = {position(r) async for part in log.chunks() for r in part.records}
    found = []
    async with open_log(settings, TASKS) as log:
        async for part in log.chunks():
            for r in part.records:
                task_id = _task_id(r)
                if (
                    r.timestamp < before_ms
                    and (part.partition, r.offset) not in dead
                    and task_id.encode() not in answered
                ):
                    found.append(Unanswered(part.partition, r.key, r.value, task_id))
    return found


class _Identified(msgspec.Struct):
    id: str


def _task_id(record: Any) -> str:
    """The id that an answer would carry: the one in the value, which the key should repeat."""
    try:
        return msgspec.json.decode(record.value or b"", type=_Identified).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return (record.key or b"").decode("utf-8", "replace")


def position(letter: Any) -> tuple[int, int] | None:
    """Where in `tasks` a dead letter was read, or None if its headers do not say."""
    headers = dict(letter.headers)
    try:
        return int(headers["petal-partition"]), int(headers["petal-offset"])
    except (KeyError, TypeError, ValueError):
        return None


@asynccontextmanager
async def _producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap,
        acks="all",
        enable_idempotence=settings.producer_idempotence,
        max_request_size=2 * MAX_RESULT_BYTES,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def publish_again(
    settings: Settings, records: Iterable[tuple[int, bytes | None, bytes | None]]
) -> int:
    """Write (partition, key, value) to `tasks`, bytes unchanged; returns how many.

    Each is acknowledged by the broker. Safe to repeat: everything is keyed by task id.
    """
    count = 0
    async with _producer(settings) as producer:
        for partition, key, value in records:
            await producer.send_and_wait(TASKS, value, key=key, partition=partition)
            count += 1
    return count


class Letter(NamedTuple):
    """A dead letter; `offset` is its own, in `dead-letters`."""

    offset: int
    reason: str
    source: tuple[int, int] | None
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


async def dead_letters(settings: Settings) -> Sequence[Letter]:
    """All dead letters, the oldest first."""
    await admin.prepare(settings)
    async with open_log(settings, DEAD_LETTERS) as log:
        return [
            Letter(
                r.offset,
                (dict(r.headers).get("petal-reason") or b"").decode("utf-8", "replace"),
                position(r),
                r.timestamp,
                r.key,
                r.value,
            )
            async for part in log.chunks()
            for r in part.records
        ]
