"""Compare the log with the database."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.errors import KafkaError

from infra.broker.admin import committed, pipeline_topics
from infra.config import Settings
from streams.codec import DECODE_ERRORS, decode_result, decode_results, is_result
from streams.commit_metadata import is_of_log
from streams.errors import StoreError
from streams.events import is_id
from streams.maintenance.scan import Progress, open_log
from streams.projection.reader import Reader, to_result
from streams.records import Chunk


class Verified(NamedTuple):
    """The differences between `results` and the database: task ids, or places of records.

    `missing`: records that are in no table, and the tasks in `unreadable`. `different`: rows that
    differ from their records.
    `extra`: rows of this log whose records are absent, although the log still has their offsets.
    `pending`: records that the sink has not read yet. `expired`: rows older than the log.
    `conflicts`: results of tasks that came with the id of another task; the first one's stays.
    `elsewhere`: those of the pending ones that the sinks' group has stored already, so in another
    database, or in a later copy of this one.
    `unreadable`: ids of tasks whose only records in `results` are not results.
    `undecodable`: places of batches that cannot be decoded, such as results[0]:5-9; each counts as
    one record, which the database has as unreadable.
    `unread`: places of records, such as results[0]:5-9, that the broker deleted before a sink
    stored them.
    """

    records: int
    missing: list[str]
    different: list[str]
    extra: list[str]
    pending: int
    expired: int
    consistent: bool
    conflicts: int
    unreadable: list[str]
    undecodable: list[str]
    elsewhere: int = 0
    unread: Sequence[str] = ()

    @property
    def agrees(self) -> bool:
        """Whether the database is the log's projection, up to the records it has read."""
        found = self.missing or self.different or self.extra or self.elsewhere or self.unread
        return self.consistent and not found


async def verify(settings: Settings, progress: Progress) -> Verified:
    """Compare every record of `results` with the tables, by position.

    Raises StoreError if there is no database or it has never seen this log.
    """
    done = pending = elsewhere = 0
    missing: list[str] = []
    different: list[str] = []
    extra: list[str] = []
    doubtful: set[str] = set()
    with Reader(settings.database) as reader:
        async with open_log(settings, settings.names.results) as log:
            log_id = reader.log_id(log.id)
            if log_id is None:
                raise StoreError(
                    f"{settings.database} has no rows of this broker's log; start a sink"
                )
            # First, because a sink may store more meanwhile.
            group = {} if settings.own_database else await _committed(settings, log.id)
            stored = reader.next_offsets(log_id)
            async for chunk in log.chunks():
                known, waiting = _split(chunk, stored)
                pending += len(waiting)
                elsewhere += sum(r.offset < group.get(chunk.partition, 0) for r in waiting)
                if known:
                    doubtful |= _find_unreadable(known)
                    found = _compare(reader, log_id, chunk._replace(records=known))
                    for ids, more in zip((missing, different, extra), found, strict=True):
                        ids += more
                done += len(chunk.records)
                progress(done, log.records)
            expired = reader.count_below(log_id, log.starts)
            unread = _unread(reader, log_id, stored, log.starts)
        audit = reader.audit()
        unreadable = sorted(task_id for task_id in doubtful if reader.get(task_id) is None)
    return Verified(
        done,
        [*dict.fromkeys([*missing, *unreadable])],
        different,
        extra,
        pending,
        expired,
        audit.consistent,
        audit.conflicts,
        unreadable,
        log.undecodable,
        elsewhere,
        [f"{settings.names.results}[{p}]:{first}-{end - 1}" for p, first, end in unread],
    )


def _unread(
    reader: Reader, log_id: int, stored: Mapping[int, int], starts: Mapping[int, int]
) -> list[tuple[int, int, int]]:
    """The (partition, first, next) offsets of this log that were deleted before they were stored.

    The sink has not noticed the last ones yet.
    """
    found = {(p, first): end for log, p, first, end in reader.deleted_unread() if log == log_id}
    for partition, start in starts.items():
        if (first := stored.get(partition, start)) < start:
            found[partition, first] = start
    return sorted((p, first, end) for (p, first), end in found.items())


async def _committed(settings: Settings, log: str) -> dict[int, int]:
    """The offsets of this log that the sinks' group has committed; none if it may not be asked."""
    [topic] = [t for t in pipeline_topics(settings) if t.name == settings.names.results]
    try:
        found = await committed(settings, settings.names.sink_group, topic)
    except (KafkaError, OSError):
        return {}
    return {p: c.offset for p, c in found.items() if is_of_log(c.metadata, log)}


def _split(chunk: Chunk, stored: Mapping[int, int]) -> tuple[list[Any], list[Any]]:
    """The records that the sink has read, and those that it has not."""
    end = stored.get(chunk.partition, 0)
    return (
        [r for r in chunk.records if r.offset < end],
        [r for r in chunk.records if r.offset >= end],
    )


def _find_unreadable(records: Sequence[Any]) -> set[str]:
    """The ids of tasks that have a record which is not a result."""
    if decode_results([record.value or b"" for record in records]) is not None:
        return set()
    keys = (
        record.key.decode("latin-1")
        for record in records
        if record.key and not is_result(record.value)
    )
    return {key for key in keys if is_id(key)}


def _compare(reader: Reader, log_id: int, chunk: Chunk) -> tuple[list[str], list[str], list[str]]:
    """Of one chunk: (missing, different, extra)."""
    last = chunk.records[-1].offset
    rows = {
        row["offset"]: row for row in reader.between(log_id, chunk.partition, chunk.first, last)
    }
    elsewhere = reader.other_offsets(log_id, chunk.partition, chunk.first, last)
    missing, different = [], []
    for record in chunk.records:
        row = rows.pop(record.offset, None)
        if row is None:
            if record.offset not in elsewhere:
                missing.append(_name(chunk.partition, record))
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
