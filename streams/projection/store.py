"""The SQLite projection of `results`: one effective row per task id.

Every record of `results` ends in exactly one of the view result and the tables duplicate and
unreadable, and each chunk's rows are committed together with the offset that follows it. So
the sum of their counts equals the sum of the next offsets (`Reader.audit`), and replaying a
chunk that is already stored changes nothing. Rows hold nothing but what the log holds: a
rebuild from the log gives the same rows.

It must follow a worker at full speed, which shaped it:
- results are stored as the JSON they came as, in blocks and in the order of the log: a row of
  its own for each would cost three times as much; the view `result` takes them apart;
- task ids are random and touch every page of their index, so that is filled once per
  transaction, sorted (`streams.projection.task_index`), and transactions are large when much waits.
"""

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from infra.topics import RESULTS
from streams.codec import decode_result
from streams.errors import OffsetGap, StoreError
from streams.projection import database as bulk
from streams.projection.backfill import carry_over
from streams.projection.blocks import Contents, read
from streams.projection.schema import (
    APPLICATION_ID,
    SCHEMA,
    SCHEMA_VERSION,
    WRITER_PRAGMAS,
    check_file,
    place_of,
    position_of,
)
from streams.projection.task_index import Keys, Repeat, Span
from streams.records import Chunk

# All at once: readers must not take half of it for a database of another program.
CREATE = f"""
BEGIN IMMEDIATE;
PRAGMA application_id={APPLICATION_ID};
PRAGMA user_version={SCHEMA_VERSION};
{SCHEMA}
COMMIT;
"""
ADVANCE = """
ON CONFLICT(log, partition) DO UPDATE
SET next_offset = excluded.next_offset, missing = missing + excluded.missing
"""


class Applied(NamedTuple):
    """What a transaction changed: new rows, duplicates recorded, records unreadable or skipped.

    `conflicts` are those of the duplicates whose task id was another task's.
    """

    new: int = 0
    duplicates: int = 0
    unreadable: int = 0
    replayed: int = 0
    conflicts: int = 0


class Duplicate(NamedTuple):
    """A result whose task has an answer: is it the same, was it to another task?"""

    position: int
    task_id: str
    same_answer: bool
    error_code: str | None


def _compare(repeat: Repeat, value: bytes) -> Duplicate:
    result, kept = decode_result(value), decode_result(repeat.kept.encode())
    same = (result.y, result.proba, result.error) == (kept.y, kept.proba, kept.error)
    conflict = "id_conflict" if result.input != kept.input else None
    return Duplicate(repeat.position, repeat.task_id, same, conflict)


def _file(path: Path) -> tuple[int, int] | None:
    """What tells a file from another that has its name."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class Store:
    """The writer's side, for one process. `cluster` names the log that is projected.

    Offsets belong to a log: a broker that lost its log (the embedded one does at every
    exit) begins again at 0, and the rows of the former log stay.
    """

    def __init__(self, path: Path, cluster: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A rebalance asks for offsets in one thread while another applies a chunk.
        self._lock = threading.Lock()
        self._path = path
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            check_file(self._db, path)
            for pragma in WRITER_PRAGMAS:
                self._db.execute(f"PRAGMA {pragma}")
            self._db.executescript(CREATE)
            self._log = self._log_id(cluster)
            self._keys = Keys(self._db)
            self._file = _file(path)
        except sqlite3.DatabaseError as e:
            self._db.close()
            raise StoreError(f"{path} cannot be used as a projection: {e}") from e

    def _log_id(self, cluster: str) -> int:
        self._db.execute("INSERT INTO log(cluster) VALUES (?) ON CONFLICT DO NOTHING", (cluster,))
        row = self._db.execute("SELECT id FROM log WHERE cluster = ?", (cluster,)).fetchone()
        return int(row[0])

    def is_in_place(self) -> bool:
        """Whether the file that is written still has its name: it may be moved or deleted."""
        return _file(self._path) == self._file

    def close(self) -> None:
        """Close the connection; the last one folds the write-ahead log into the file."""
        self._db.close()

    def next_offsets(self) -> dict[int, int]:
        """Of each partition of this log that was ever applied, the offset to read next."""
        with self._lock:
            return self._next_offsets()

    def _next_offsets(self) -> dict[int, int]:
        query = "SELECT partition, next_offset FROM projection_offset WHERE log = ?"
        return dict(self._db.execute(query, (self._log,)))

    def apply(self, partition: int, first: int, records: Sequence[Any]) -> Applied:
        """Store one slice of the log; see `apply_all`."""
        return self.apply_all([read(Chunk(RESULTS, partition, first, records))])

    def apply_all(self, parts: Sequence[Contents]) -> Applied:
        """Store slices of the log in one transaction, each partition's in offset order.

        Records below the stored offset are skipped; raises OffsetGap if a slice begins above
        it. Of two results with one task id the one in the log's order before the other wins.
        """
        with self._lock:
            self._keys.reserve(sum(len(part.offsets) for part in parts))
            self._db.execute("BEGIN IMMEDIATE")
            try:
                applied = self._apply_all(parts)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk has rolled back already
                    self._db.execute("ROLLBACK")
                raise
            return applied

    def _apply_all(self, parts: Sequence[Contents]) -> Applied:
        offsets = self._next_offsets()
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
        found, conflicts = self._add_keys(fresh)
        results = sum(len(part.offsets) for part in fresh)
        unreadable = sum(len(part.unreadable) for part in fresh)
        return Applied(found, results - found, unreadable, replayed, conflicts)

    def _position(self, partition: int, offset: int) -> int:
        return position_of(self._log, partition, offset)

    def _advance(self, parts: Sequence[Contents]) -> None:
        bulk.insert(
            self._db,
            "INTO projection_offset(log, partition, first_offset, next_offset, missing)",
            [(self._log, part.partition, part.first, part.end, part.missing) for part in parts],
            ADVANCE,
        )

    def _insert(self, part: Contents) -> None:
        start = self._position(part.partition, 0)
        self._position(part.partition, part.end - 1)
        blocks = ((start + offset, *block) for offset, *block in part.blocks())
        bulk.insert(self._db, "INTO result_block(position, answered_at_ms, answers)", blocks)
        unreadable = [(self._log, part.partition, *record) for record in part.unreadable]
        bulk.insert(self._db, "INTO unreadable", unreadable)

    def _add_keys(self, parts: Sequence[Contents]) -> tuple[int, int]:
        """Note which tasks are answered, and the others' answers as duplicates.

        Returns how many were new, and how many were conflicts.
        """
        ids = b"".join([part.ids for part in parts])
        values = [value for part in parts for value in part.values]
        new = self._keys.add(ids, self._spans(parts))
        if new == len(values):
            return new, 0
        repeats = self._keys.repeated(ids)
        return new, self._record([_compare(repeat, values[repeat.number]) for repeat in repeats])

    def _spans(self, parts: Sequence[Contents]) -> list[Span]:
        spans = []
        before = 0
        for part in parts:
            for start, end in part.runs():
                position = self._position(part.partition, part.offsets[start])
                first = before + start
                spans.append(Span(first, before + end - 1, position - first))
            before += len(part.offsets)
        return spans

    def _record(self, duplicates: Sequence[Duplicate]) -> int:
        """Note duplicates; returns the conflicts."""
        rows = [(*place_of(position), *others) for position, *others in duplicates]
        bulk.insert(self._db, "INTO duplicate", rows)
        return sum(d.error_code is not None for d in duplicates)

    def carry_over(self, old: Path, starts: Mapping[int, int]) -> int:
        """Copy from another projection what the log can no longer give; returns the rows.

        That is everything of former logs and, of this log, what lies below `starts`, the
        first offset of each partition. Only for a store that holds nothing yet.
        """
        with self._lock:
            self._log, rows = carry_over(self._db, self._log, old, starts)
            return rows
