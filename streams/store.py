"""The SQLite projection of `results`: one effective row per task id.

Every record of `results` ends in exactly one of the tables result, duplicate or unreadable,
and each chunk's rows are committed together with the offset that follows it. So the sum of
their counts equals the sum of the next offsets (`Reader.audit`), and replaying a chunk that
is already stored changes nothing. Rows hold nothing but what the log holds: a rebuild from
the log gives the same rows.
"""

import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from streams.events import Result, decode_result, encode
from streams.schema import (
    APPLICATION_ID,
    SCHEMA,
    SCHEMA_VERSION,
    WRITER_PRAGMAS,
    StoreError,
    check_file,
)

INSERT = f"INSERT INTO result VALUES ({','.join('?' * 17)}) ON CONFLICT(task_id) DO NOTHING"  # noqa: S608
COPY_GONE = """
INSERT INTO {table} SELECT x.* FROM old.{table} x LEFT JOIN start USING (partition)
WHERE x.log <> :log OR x."offset" < start.first
"""
# What lies below the log's start and in no table was never seen, or was a hole in the log.
RESUME_AT_START = """
INSERT INTO projection_offset(log, partition, next_offset, first_offset, missing)
SELECT o.log, o.partition, start.first, o.first_offset, start.first - o.first_offset
  - (SELECT count(*) FROM result r WHERE r.log = o.log AND r.partition = o.partition)
  - (SELECT count(*) FROM duplicate d WHERE d.log = o.log AND d.partition = o.partition)
  - (SELECT count(*) FROM unreadable u WHERE u.log = o.log AND u.partition = o.partition)
FROM old.projection_offset o JOIN start USING (partition)
WHERE o.log = :log AND start.first > o.first_offset
"""
UNREADABLE_KEPT = 65_536  # bytes of an unreadable value that are kept as evidence


class OffsetGap(Exception):
    """A chunk does not begin at the stored offset; the reader must seek to `next_offset`."""

    def __init__(self, partition: int, next_offset: int, got: int) -> None:
        super().__init__(f"results[{partition}]: have up to {next_offset}, got {got}")
        self.next_offset = next_offset


class Record(Protocol):
    """What the store needs of a Kafka record; times in milliseconds since the epoch."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...


class Slice(NamedTuple):
    """Consecutive records of one partition; offsets from `first` on that are not among them
    do not exist in the log. The store needs of each no more than `Record` has."""

    partition: int
    first: int
    records: Sequence[Any]


class Applied(NamedTuple):
    """What a transaction changed: new rows, duplicates recorded, records unreadable or skipped.

    `conflicts` are those of the duplicates whose task id was another task's.
    """

    new: int = 0
    duplicates: int = 0
    unreadable: int = 0
    replayed: int = 0
    conflicts: int = 0


def _row(result: Result, log: int, partition: int, record: Record) -> tuple[Any, ...]:
    error = result.error
    return (
        result.id,
        "ok" if error is None else "error",
        None if result.y is None else encode(result.y).decode(),
        None if result.proba is None else encode(result.proba).decode(),
        None if error is None else error.code,
        None if error is None else error.message,
        result.input,
        result.model,
        result.worker,
        result.task.partition,
        result.task.offset,
        result.ms.queue,
        result.ms.infer,
        log,
        partition,
        record.offset,
        record.timestamp,
    )


def _read(value: bytes | None) -> Result | str:
    """The result in a record, or why there is none."""
    if value is None:
        return "tombstone"
    try:
        result = decode_result(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        return f"not a result: {e}"[:200]
    if (result.y is None) == (result.error is None):
        return "not a result: it must have either y or error"
    return result


class Store:
    """The writer's side, for one process. `cluster` names the log that is projected.

    Offsets belong to a log: a broker that lost its log (the embedded one does at every
    exit) begins again at 0, and the rows of the former log stay.
    """

    def __init__(self, path: Path, cluster: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A rebalance asks for offsets in one thread while another applies a chunk.
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            check_file(self._db, path)
            for pragma in WRITER_PRAGMAS:
                self._db.execute(f"PRAGMA {pragma}")
            self._db.executescript(SCHEMA)
            self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            self._log = self._log_id(cluster)
        except sqlite3.DatabaseError as e:
            self._db.close()
            raise StoreError(f"{path} cannot be used as a projection: {e}") from e

    def _log_id(self, cluster: str) -> int:
        self._db.execute("INSERT INTO log(cluster) VALUES (?) ON CONFLICT DO NOTHING", (cluster,))
        row = self._db.execute("SELECT id FROM log WHERE cluster = ?", (cluster,)).fetchone()
        return int(row[0])

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

    def apply(self, partition: int, first: int, records: Sequence[Record]) -> Applied:
        """Store one slice of the log; see `apply_all`."""
        return self.apply_all([Slice(partition, first, records)])

    def apply_all(self, slices: Sequence[Slice]) -> Applied:
        """Store slices of the log in one transaction, each partition's in offset order.

        Records below the stored offset are skipped; raises OffsetGap if a slice begins above
        it. The larger a transaction, the less each row costs: keys are random, so every
        transaction writes most pages of their index.
        """
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                applied = self._apply_all(slices)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk has rolled back already
                    self._db.execute("ROLLBACK")
                raise
            return applied

    def _apply_all(self, slices: Sequence[Slice]) -> Applied:
        rows: list[tuple[Any, ...]] = []
        unreadable: list[tuple[Any, ...]] = []
        offsets = self._next_offsets()
        replayed = 0
        for partition, first, records in slices:
            stored = offsets.get(partition, first)
            if first > stored:
                raise OffsetGap(partition, stored, first)
            fresh = [r for r in records if r.offset >= stored]
            replayed += len(records) - len(fresh)
            if fresh:
                offsets[partition] = fresh[-1].offset + 1
                self._advance(partition, stored, offsets[partition], len(fresh))
                self._sort_out(partition, fresh, rows, unreadable)
        new, conflicts = self._insert(rows)
        self._db.executemany("INSERT INTO unreadable VALUES (?, ?, ?, ?, ?)", unreadable)
        return Applied(new, len(rows) - new, len(unreadable), replayed, conflicts)

    def _advance(self, partition: int, start: int, end: int, records: int) -> None:
        self._db.execute(
            "INSERT INTO projection_offset(log, partition, first_offset, next_offset, missing) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT(log, partition) DO UPDATE SET "
            "next_offset = excluded.next_offset, missing = missing + excluded.missing",
            (self._log, partition, start, end, end - start - records),
        )

    def _sort_out(
        self,
        partition: int,
        records: Sequence[Record],
        rows: list[tuple[Any, ...]],
        unreadable: list[tuple[Any, ...]],
    ) -> None:
        for record in records:
            read = _read(record.value)
            if isinstance(read, Result):
                rows.append(_row(read, self._log, partition, record))
            else:
                value = record.value and record.value[:UNREADABLE_KEPT]
                unreadable.append((self._log, partition, record.offset, read, value))

    def _insert(self, rows: list[tuple[Any, ...]]) -> tuple[int, int]:
        """Insert rows of new task ids, record the others as duplicates.

        Returns how many were new, and how many were conflicts.
        """
        if not rows:
            return 0, 0
        # Sorted keys touch each page of the index once: twice as fast as in offset order.
        # The sort is stable, so of two records with one id the earlier still wins.
        rows.sort(key=lambda row: row[0])
        new = self._db.executemany(INSERT, rows).rowcount
        return new, self._record_duplicates(rows) if new < len(rows) else 0

    def _record_duplicates(self, rows: Iterable[tuple[Any, ...]]) -> int:
        """Record those of `rows` that are not in the table; returns the conflicts."""
        find = (
            "SELECT status, y, proba, error_code, error_message, input, log, partition, "
            '"offset" FROM result WHERE task_id = ?'
        )
        conflicts = 0
        for row in rows:
            kept = self._db.execute(find, (row[0],)).fetchone()
            if kept[6:] == row[13:16]:
                continue
            conflict = kept[5] != row[6]
            conflicts += conflict
            self._db.execute(
                "INSERT INTO duplicate VALUES (?, ?, ?, ?, ?, ?)",
                (self._log, row[14], row[15], row[0], kept[:5] == row[1:6],
                 "id_conflict" if conflict else None),
            )  # fmt: skip
        return conflicts

    def carry_over(self, old: Path, starts: Mapping[int, int]) -> int:
        """Copy from another projection what the log can no longer give; returns the rows.

        That is everything of former logs and, of this log, what lies below `starts`, the
        first offset of each partition. Only for a store that holds nothing yet.
        """
        with self._lock:
            self._db.execute("ATTACH DATABASE ? AS old", (str(old),))
            self._db.execute("CREATE TEMP TABLE start(partition INTEGER PRIMARY KEY, first)")
            self._db.executemany("INSERT INTO start VALUES (?, ?)", starts.items())
            self._db.execute("BEGIN IMMEDIATE")
            try:
                rows = self._carry_over()
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("DETACH DATABASE old")
            return rows

    def _carry_over(self) -> int:
        run = self._db.execute
        (cluster,) = run("SELECT cluster FROM log WHERE id = ?", (self._log,)).fetchone()
        run("DELETE FROM log")
        run("INSERT INTO log SELECT * FROM old.log")  # rows keep their log's number
        self._log = self._log_id(cluster)
        kept = {
            table: run(COPY_GONE.format(table=table), {"log": self._log}).rowcount
            for table in ("result", "duplicate", "unreadable")
        }
        run("INSERT INTO projection_offset SELECT * FROM old.projection_offset WHERE log <> ?",
            (self._log,))  # fmt: skip
        run(RESUME_AT_START, {"log": self._log})
        return kept["result"]
