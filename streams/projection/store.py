"""The SQLite projection of `results`: one effective row per task id.

Every record of `results` is in exactly one of the view result_json and the tables duplicate and
unreadable, and the rows of a chunk are committed together with the offset that follows it. So
the sum of their counts equals the sum of the next offsets (`Reader.audit`), and replaying a
stored chunk changes nothing. All data of a row comes from the log: a rebuild gives the same rows.

The store must keep up with a worker at full speed:
- results are stored as the JSON of their records, in blocks and in the order of the log; a row
  for each would cost three times as much; the view `result_json` splits the blocks, and the rows of
  the view `result` follow when there is time (`streams.projection.typed_rows`);
- task ids are random and touch every page of their index, so the index is filled once per
  transaction, sorted (`streams.projection.task_index`), and transactions are large under load.
"""

import logging
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from operator import add
from pathlib import Path
from typing import NamedTuple

from streams.codec import answering_model, decode_result
from streams.errors import OffsetGap
from streams.projection.backfill import copy_expired
from streams.projection.blocks import Contents, read
from streams.projection.database import closing_on_error, insert, open_writer, transaction
from streams.projection.faults import explained
from streams.projection.logs import enter, enter_newest, further, newest, number_of
from streams.projection.schema import place_of, position_of
from streams.projection.task_index import IdRange, Repeat, TaskIndex
from streams.projection.typed_rows import STEP_BLOCKS, add_at_once, add_later, count_left
from streams.records import Chunk

# What SQLite, or its binding, raises for a record that it does not take.
RECORD_ERRORS = (sqlite3.DataError, sqlite3.IntegrityError, ArithmeticError, ValueError, TypeError)

logger = logging.getLogger("petalstream")

ADVANCE = """
ON CONFLICT(log, partition) DO UPDATE
SET next_offset = excluded.next_offset, missing = missing + excluded.missing
"""

UNANSWERED = """
SELECT count(DISTINCT task_id) FROM unreadable
WHERE task_id IS NOT NULL AND task_id NOT IN (SELECT task_id FROM result_key)
"""
DELETED_UNREAD = "SELECT coalesce(sum(next_offset - first_offset), 0) FROM deleted_unread"


class Applied(NamedTuple):
    """What a transaction did with its records: new rows, duplicates, unreadable, skipped.

    `conflicts`: duplicates whose id belongs to another task. `unread`: records that the broker
    deleted before the sink read them.
    """

    new: int = 0
    duplicates: int = 0
    unreadable: int = 0
    replayed: int = 0
    conflicts: int = 0
    unread: int = 0


class Duplicate(NamedTuple):
    """A result whose task id has one already; `error_code` if that belongs to another task."""

    position: int
    task_id: str
    same_answer: bool
    error_code: str | None


def _compare(repeat: Repeat, value: bytes) -> Duplicate:
    result, kept = decode_result(value), decode_result(repeat.kept.encode())
    answer, first = ((r.y, r.proba, r.score, r.error) for r in (result, kept))
    models = {answering_model(result), answering_model(kept)} - {None}
    is_same_task = result.input == kept.input and len(models) < 2
    conflict = None if is_same_task else "id_conflict"
    return Duplicate(repeat.position, repeat.task_id, answer == first, conflict)


def _halves(parts: Sequence[Contents]) -> tuple[Sequence[Contents], Sequence[Contents]]:
    if len(parts) > 1:
        return parts[: len(parts) // 2], parts[len(parts) // 2 :]
    [part] = parts
    offsets = _offsets(part)
    middle = offsets[len(offsets) // 2]  # each half has records, so that offsets move
    return [part.until(middle)], [part.since(middle)]


def _offsets(part: Contents) -> list[int]:
    """The offsets of its records, each once."""
    return sorted({*part.offsets, *(u.offset for u in part.unreadable)})


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode: they differ when another file has the name."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class Store:
    """Writes the projection, in one process: the rows of one log at a time.

    Offsets belong to a log: a topic that was recreated begins at 0 again, and the rows of the
    former log stay.
    """

    def __init__(self, path: Path, log: str) -> None:
        """Open or create the database; raises StoreError, or StoreBusy."""
        # A rebalance asks for offsets in one thread while another applies a chunk.
        self._lock = threading.Lock()
        self._path = path
        self._db = open_writer(path)
        with explained(path, write=True), closing_on_error(self._db):
            self._log, self._name = enter_newest(self._db, log)
            self._index = TaskIndex(self._db)
            self._file = _identity(path)

    def follow(self, log: str) -> str:
        """Store the records of this log from now on; returns its name (`streams.projection.logs`).

        Writes nothing. Chunks of the log before are not stored any more.
        """
        with self._lock:
            self._name = newest(self._db, log) or log
            return self._name

    def follow_next(self, log: str) -> str:
        """As `follow`, for another log that has the same id."""
        with self._lock:
            self._name = further(self._db, log)
            return self._name

    def is_in_place(self) -> bool:
        """Whether the file still has its name; a user may move or delete it."""
        return _identity(self._path) == self._file

    def close(self) -> None:
        """Close the connection; the last one folds the write-ahead log into the file."""
        with self._lock:  # a thread may be amid `add_rows`
            self._db.close()

    def next_offsets(self) -> dict[int, int]:
        """The next offset of each partition of this log that has stored records."""
        with self._lock:
            return self._next_offsets()

    def _next_offsets(self) -> dict[int, int]:
        query = "SELECT partition, next_offset FROM projection_offset WHERE log = ?"
        return dict(self._db.execute(query, (number_of(self._db, self._name),)))

    def apply(self, chunk: Chunk) -> Applied:
        """Store one chunk of `results`; see `apply_all`."""
        return self.apply_all([read(chunk)])

    def apply_all(self, parts: Sequence[Contents]) -> Applied:
        """Store chunks in one transaction, those of each partition in offset order.

        Records below the stored offset are skipped, and chunks that name another log than the
        followed one; raises OffsetGap if a chunk begins above it. Of several results of one task,
        the first that was stored stays. Raises StoreBusy while the database is locked or the disk
        is full, and StoreError if a person must act.
        """
        with self._lock, explained(self._path, write=True):
            self._index.reserve(sum(len(part.offsets) for part in parts))
            try:
                with transaction(self._db):
                    return self._apply_all(parts)
            except RECORD_ERRORS as e:
                return self._apply_halves(parts, e)

    def _apply_halves(self, parts: Sequence[Contents], error: Exception) -> Applied:
        """Store what can be stored; the record that SQLite does not take alone is unreadable."""
        if len(parts) == 1 and len(_offsets(parts[0])) == 1:
            failed = parts[0].as_unreadable(f"not stored: {type(error).__name__}")
            logger.error(
                "results[%d] offset %d is not stored: %r",
                failed.partition, failed.unreadable[0].offset, error,
            )  # fmt: skip
            with transaction(self._db):
                return self._apply_all([failed])
        applied = Applied()
        for half in _halves(parts):
            try:
                with transaction(self._db):
                    more = self._apply_all(half)
            except RECORD_ERRORS as e:
                more = self._apply_halves(half, e)
            applied = Applied(*map(add, applied, more))
        return applied

    def _apply_all(self, parts: Sequence[Contents]) -> Applied:
        self._log = enter(self._db, self._name)
        parts = [part for part in parts if part.log in ("", self._name)]
        offsets = self._next_offsets()
        before = dict(offsets)
        fresh: list[Contents] = []
        replayed = 0
        for part in parts:
            stored = offsets.get(part.partition, part.first)
            if part.first > stored:
                raise OffsetGap(part.partition, stored, part.first)
            new = part if part.first == stored else part.since(stored)
            replayed += part.records - new.records
            if new.records:
                fresh.append(new)
                offsets[part.partition] = new.end
        self._advance(fresh)
        for part in fresh:
            self._insert(part)
        found, conflicts = self._add_ids(fresh)
        add_at_once(self._db, self._log, fresh, before)
        results = sum(len(part.offsets) for part in fresh)
        unreadable = sum(len(part.unreadable) for part in fresh)
        unread = sum(len(part.unread) for part in fresh)
        return Applied(found, results - found, unreadable, replayed, conflicts, unread)

    def add_rows(self, blocks: int = STEP_BLOCKS) -> bool:
        """In a transaction, add rows of some blocks that the view `result` lacks; whether any did.

        It lacks those of large transactions until then (`streams.projection.typed_rows`).
        """
        with self._lock, explained(self._path, write=True):
            if not count_left(self._db):
                return False
            with transaction(self._db):
                return add_later(self._db, blocks)

    def rows_left(self) -> int:
        """About how many rows the view `result` lacks."""
        with self._lock, explained(self._path):
            return count_left(self._db)

    def unanswered(self) -> int:
        """How many tasks have only records in `results` that are not results."""
        with self._lock, explained(self._path):
            return int(self._db.execute(UNANSWERED).fetchone()[0])

    def deleted_unread(self) -> int:
        """How many results the broker deleted before they were stored."""
        with self._lock, explained(self._path):
            return int(self._db.execute(DELETED_UNREAD).fetchone()[0])

    def _position(self, partition: int, offset: int) -> int:
        return position_of(self._log, partition, offset)

    def _advance(self, parts: Sequence[Contents]) -> None:
        insert(
            self._db,
            "INTO projection_offset(log, partition, first_offset, next_offset, missing)",
            [(self._log, part.partition, part.first, part.end, part.missing) for part in parts],
            ADVANCE,
        )
        unread = [(self._log, part.partition, part.unread) for part in parts if part.unread]
        rows = [(log, partition, found.start, found.stop) for log, partition, found in unread]
        insert(self._db, "INTO deleted_unread", rows)

    def _insert(self, part: Contents) -> None:
        start = self._position(part.partition, 0)
        self._position(part.partition, part.end - 1)
        blocks = ((start + offset, *block) for offset, *block in part.blocks())
        insert(self._db, "INTO result_block(position, answered_at_ms, answers)", blocks)
        unreadable = [(self._log, part.partition, *record) for record in part.unreadable]
        insert(self._db, "INTO unreadable", unreadable)

    def _add_ids(self, parts: Sequence[Contents]) -> tuple[int, int]:
        """Index the new results and record the others as duplicates.

        Returns how many were new, and how many were conflicts.
        """
        ids = b"".join([part.ids for part in parts])
        values = [value for part in parts for value in part.values]
        new = self._index.add(ids, self._ranges(parts))
        if new == len(values):
            return new, 0
        repeats = self._index.repeated(ids)
        return new, self._record([_compare(repeat, values[repeat.number]) for repeat in repeats])

    def _ranges(self, parts: Sequence[Contents]) -> list[IdRange]:
        ranges = []
        before = 0
        for part in parts:
            for start, end in part.runs():
                position = self._position(part.partition, part.offsets[start])
                first = before + start
                ranges.append(IdRange(first, before + end - 1, position - first))
            before += len(part.offsets)
        return ranges

    def _record(self, duplicates: Sequence[Duplicate]) -> int:
        """Record duplicates; returns the number of conflicts."""
        rows = [(*place_of(position), *others) for position, *others in duplicates]
        insert(self._db, "INTO duplicate", rows)
        return sum(d.error_code is not None for d in duplicates)

    def backfill(self, old: Path, starts: Mapping[int, int]) -> int:
        """Copy from an older projection the rows that the log can no longer give; returns how many.

        These are all rows of former logs and, of this log, those below `starts`, the first
        offset of each partition. Only for a store that holds nothing yet.
        """
        with self._lock, explained(self._path, write=True):
            self._name, rows = copy_expired(self._db, self._name, old, starts)
            return rows
