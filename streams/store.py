"""The SQLite projection of `results`: one effective row per task id.

Every record of `results` ends in exactly one of the tables result, duplicate or unreadable,
and each chunk's rows are committed together with the offset that follows it. So the sum of
their counts equals the sum of the next offsets (`Reader.audit`), and replaying a chunk that
is already stored changes nothing. Rows hold nothing but what the log holds: a rebuild from
the log gives the same rows.

It must follow a worker at full speed as closely as it can, which shaped it:
- a row is its result's JSON beside what is needed to find it, in the order of the log, so it
  is appended and never built column by column; the view `result` has the columns;
- task ids are random and touch every page of their index, so their table `result_key` is filled
  once per transaction, sorted, by one statement inside SQLite, and transactions are large
  when much waits;
- many rows go into one INSERT: each statement takes and gives up the interpreter's lock, for
  which the sink's event loop may make it wait.
"""

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from streams.events import DECODE_ERRORS, Result, decode_result, decode_results, encode
from streams.schema import (
    APPLICATION_ID,
    SCHEMA,
    SCHEMA_VERSION,
    WRITER_PRAGMAS,
    StoreError,
    check_file,
    position_of,
)

# What fails rolls the whole transaction back. With SQLite's default, OR ABORT, it would keep a
# journal of every page that a statement changes.
ROWS_AT_ONCE = 50
COLUMNS = "position, task_id, answered_at_ms, value"


def _insert(rows: int) -> str:
    values = ",".join(["(?,?,?,?)"] * rows)
    return f"INSERT OR ROLLBACK INTO result_row({COLUMNS}) VALUES {values}"  # noqa: S608


INSERT_ONE, INSERT_MANY = _insert(1), _insert(ROWS_AT_ONCE)
# The rows of this transaction, as ranges of positions.
FRESH = """WITH span(first, last) AS (VALUES {spans}), fresh AS (
  SELECT result_row.* FROM span CROSS JOIN result_row WHERE position BETWEEN first AND last)"""
ADD_KEYS = """
INSERT OR ROLLBACK INTO result_key {fresh}
SELECT task_id, position FROM fresh ORDER BY task_id, position
ON CONFLICT(task_id) DO NOTHING
"""
FIND_REPEATED = """
{fresh}
SELECT fresh.position, fresh.value, kept.value FROM fresh
JOIN result_key USING (task_id) JOIN result_row kept ON kept.position = result_key.position
WHERE fresh.position <> kept.position
"""
COPY_GONE = """
INSERT INTO {table}({columns}) SELECT {columns} FROM old.{table} x
LEFT JOIN start USING (partition) WHERE x.log <> :log OR x."offset" < start.first
"""
COPIED = {
    "result_row": COLUMNS,
    "duplicate": 'log, partition, "offset", task_id, same_answer, error_code',
    "unreadable": 'log, partition, "offset", reason, value',
}
# What lies below the log's start and in no table was never seen, or was a hole in the log.
RESUME_AT_START = """
INSERT INTO projection_offset(log, partition, next_offset, first_offset, missing)
SELECT o.log, o.partition, start.first, o.first_offset, start.first - o.first_offset
  - (SELECT count(*) FROM result_row r WHERE r.log = o.log AND r.partition = o.partition)
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


def _read(value: bytes | None) -> Result | str:
    """The result in a record, or why there is none."""
    if value is None:
        return "tombstone"
    try:
        return decode_result(value)
    except DECODE_ERRORS as e:
        return f"not a result: {e}"[:200]


Row = tuple[int, str, int, str]  # as COLUMNS


class Repeated(NamedTuple):
    """A row whose task id has an answer: is it the same, was it to another task?"""

    position: int
    same_answer: bool
    conflict: bool


def _compare(position: int, value: str, kept_value: str) -> Repeated:
    result, kept = decode_result(value.encode()), decode_result(kept_value.encode())
    same = (result.y, result.proba, result.error) == (kept.y, kept.proba, kept.error)
    return Repeated(position, same, result.input != kept.input)


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
        it. Of two results with one task id the one in the log's order before the other wins.
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
        offsets = self._next_offsets()
        spans: dict[int, tuple[int, int]] = {}  # of each partition the offsets in this transaction
        replayed = readable = unreadable = 0
        for partition, first, records in slices:
            stored = offsets.get(partition, first)
            if first > stored:
                raise OffsetGap(partition, stored, first)
            fresh = [r for r in records if r.offset >= stored]
            replayed += len(records) - len(fresh)
            if fresh:
                end = offsets[partition] = fresh[-1].offset + 1
                spans[partition] = spans.get(partition, (stored, 0))[0], end
                self._advance(partition, stored, end, len(fresh))
                rows = self._read_all(partition, fresh)
                self._insert(rows)
                readable += len(rows)
                unreadable += len(fresh) - len(rows)
        new, conflicts = self._find_answered(spans, readable) if readable else (0, 0)
        return Applied(new, readable - new, unreadable, replayed, conflicts)

    def _advance(self, partition: int, start: int, end: int, records: int) -> None:
        self._db.execute(
            "INSERT INTO projection_offset(log, partition, first_offset, next_offset, missing) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT(log, partition) DO UPDATE SET "
            "next_offset = excluded.next_offset, missing = missing + excluded.missing",
            (self._log, partition, start, end, end - start - records),
        )

    def _read_all(self, partition: int, records: Sequence[Record]) -> list[Row]:
        """A row for each record that can be read; the others are stored as unreadable."""
        start = position_of(self._log, partition, 0)
        position_of(self._log, partition, records[-1].offset)
        decoded = decode_results([r.value or b"" for r in records])
        if decoded is None:
            return self._read_singly(partition, start, records)
        return [
            (start + record.offset, result.id, record.timestamp, text)
            for record, result, text in zip(records, *decoded, strict=True)
        ]

    def _read_singly(self, partition: int, start: int, records: Sequence[Record]) -> list[Row]:
        rows: list[Row] = []
        unreadable = []
        for record in records:
            read = _read(record.value)
            if isinstance(read, Result):
                text = encode(read).decode()
                rows.append((start + record.offset, read.id, record.timestamp, text))
            else:
                value = record.value and record.value[:UNREADABLE_KEPT]
                unreadable.append((self._log, partition, record.offset, read, value))
        self._db.executemany("INSERT INTO unreadable VALUES (?, ?, ?, ?, ?)", unreadable)
        return rows

    def _insert(self, rows: list[Row]) -> None:
        several = len(rows) - len(rows) % ROWS_AT_ONCE
        for n in range(0, several, ROWS_AT_ONCE):
            values = tuple(chain.from_iterable(rows[n : n + ROWS_AT_ONCE]))
            self._db.execute(INSERT_MANY, values)
        self._db.executemany(INSERT_ONE, rows[several:])

    def _find_answered(self, spans: Mapping[int, tuple[int, int]], rows: int) -> tuple[int, int]:
        """Note which task ids the transaction's rows answer, make duplicates of the others.

        Returns how many were new, and how many were conflicts.
        """
        fresh = FRESH.format(spans=",".join(["(?,?)"] * len(spans)))
        ends = [
            position_of(self._log, partition, offset)
            for partition, (first, end) in spans.items()
            for offset in (first, end - 1)
        ]
        new = self._db.execute(ADD_KEYS.format(fresh=fresh), ends).rowcount
        if new == rows:
            return new, 0
        repeated = self._db.execute(FIND_REPEATED.format(fresh=fresh), ends)
        return new, self._record_duplicates([_compare(*found) for found in repeated])

    def _record_duplicates(self, repeated: Sequence[Repeated]) -> int:
        """Move rows to the duplicates; returns the conflicts."""
        self._db.executemany(
            'INSERT INTO duplicate SELECT log, partition, "offset", task_id, ?, ? '
            "FROM result_row WHERE position = ?",
            [(r.same_answer, "id_conflict" if r.conflict else None, r.position) for r in repeated],
        )
        positions = [(r.position,) for r in repeated]
        self._db.executemany("DELETE FROM result_row WHERE position = ?", positions)
        return sum(r.conflict for r in repeated)

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
            table: run(COPY_GONE.format(table=table, columns=columns), {"log": self._log}).rowcount
            for table, columns in COPIED.items()
        }
        run("INSERT INTO result_key SELECT task_id, position FROM result_row ORDER BY task_id")
        run("INSERT INTO projection_offset SELECT * FROM old.projection_offset WHERE log <> ?",
            (self._log,))  # fmt: skip
        run(RESUME_AT_START, {"log": self._log})
        return kept["result_row"]
