"""Read the SQLite projection, beside the sink that writes it."""

import sqlite3
from collections.abc import Iterator, Mapping
from heapq import nlargest
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import sqlite_utils

from streams.codec import decode_result
from streams.events import Result
from streams.projection.blocks import BLOCK_ROWS
from streams.projection.database import open_reader
from streams.projection.faults import explained
from streams.projection.logs import newest, number_of
from streams.projection.schema import MAX_OFFSET, position_of
from streams.projection.search import Found, Wanted, search

# Positions are searched for in the blocks that can hold them.
WITHIN = f"block BETWEEN :first - {BLOCK_ROWS - 1} AND :last AND position BETWEEN :first AND :last"


class Audit(NamedTuple):
    """Counts of the tables, and of the records, which the tables must add up to."""

    results: int
    duplicates: int
    unreadable: int
    records: int
    conflicts: int = 0  # those of the duplicates whose task id was another task's

    @property
    def consistent(self) -> bool:
        """Whether every record that was read is in exactly one table."""
        return self.results + self.duplicates + self.unreadable == self.records


def to_result(row: Mapping[str, Any]) -> Result:
    """The result in a row of the view `result_json`."""
    return decode_result(row["value"].encode())


_decode_block = msgspec.json.Decoder(list[Result]).decode


def _positions(log: int, partition: int, first: int, last: int) -> dict[str, int]:
    start = position_of(log, partition, 0)
    return {"first": start + first, "last": start + last}


class Reader:
    """Reads the projection; safe beside the writer. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        """Raises NoProjection if there is none at `path`, or an empty one, and StoreError."""
        self._path = path
        self._connection = open_reader(path)
        self._db = sqlite_utils.Database(self._connection)
        # A database that no store of this version has opened has it under the name `result`.
        views = self._db.view_names()
        self._view = "result_json" if "result_json" in views else "result"

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Raises an error of SQLite that is about the file as a StoreError."""
        self.close()
        if isinstance(error, sqlite3.DatabaseError):
            with explained(self._path):
                raise error

    def close(self) -> None:
        self._connection.close()

    def get(self, task_id: str) -> dict[str, Any] | None:
        """The row of a task id with all its provenance, or None."""
        return next(self._db[self._view].rows_where("task_id = ?", [task_id]), None)

    def latest(self, limit: int) -> list[dict[str, Any]]:
        """The newest rows first; within a partition in the reverse order of its log."""
        logs = self._connection.execute("SELECT log, partition FROM projection_offset").fetchall()
        stamps = [s for log, part in logs for s in self._last_stamps(log, part, limit)]
        newest = nlargest(limit, stamps)
        return [row for *_, position in newest for row in self._within(position, position)]

    def search(self, wanted: Wanted, limit: int) -> Found:
        """The newest results that are wanted; raises SearchTooLong."""
        return search(self._connection, wanted, limit)

    def repeats(self, task_id: str) -> list[tuple[int, int, str | None]]:
        """The further results of a task, which changed nothing: partition, offset, error code."""
        query = 'SELECT partition, "offset", error_code FROM duplicate WHERE task_id = ? LIMIT 100'
        return self._connection.execute(query, (task_id,)).fetchall()

    def newest_answers(self, blocks: int) -> list[tuple[int, list[Result]]]:
        """Of each partition its newest blocks: their time in ms, and results in the log's order.

        Repeated answers are among them. The cost depends on `blocks` and partitions alone.
        """
        query = (
            "SELECT answered_at_ms, answers FROM result_block WHERE position BETWEEN :first AND "
            ":last ORDER BY position DESC LIMIT :blocks"
        )
        places = self._connection.execute("SELECT log, partition FROM projection_offset").fetchall()
        return [
            (at, _decode_block(answers))
            for log, partition in places
            for at, answers in self._connection.execute(
                query, {**_positions(log, partition, 0, MAX_OFFSET), "blocks": blocks}
            )
        ]

    def _last_stamps(self, log: int, partition: int, limit: int) -> list[tuple[int, int, int, int]]:
        """(time in ms, log, offset, position) of the last rows of one partition."""
        query = (
            f'SELECT answered_at_ms, log, "offset", position, block FROM {self._view} '  # noqa: S608
            f"WHERE {WITHIN} ORDER BY block DESC"
        )
        rows = self._connection.execute(query, _positions(log, partition, 0, MAX_OFFSET))
        backwards = (row for _, block in groupby(rows, itemgetter(4)) for row in [*block][::-1])
        return [stamp[:4] for stamp in islice(backwards, limit)]

    def _within(self, first: int, last: int) -> Iterator[dict[str, Any]]:
        return self._db[self._view].rows_where(WITHIN, {"first": first, "last": last})

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows, by task id."""
        return self._db[self._view].rows_where(order_by="task_id")

    def logs(self) -> dict[int, str]:
        """The ids of the logs that have rows, by their numbers."""
        return dict(self._connection.execute("SELECT id, cluster FROM log"))

    def log_id(self, log: str) -> int | None:
        """The number under which rows of the newest log with this id are stored, or None."""
        name = newest(self._connection, log)
        return None if name is None else number_of(self._connection, name)

    def next_offsets(self, log_id: int) -> dict[int, int]:
        """Of each partition of a log, the offset that the sink reads next."""
        where = "SELECT partition, next_offset FROM projection_offset WHERE log = ?"
        return dict(self._connection.execute(where, (log_id,)))

    def deleted_unread(self) -> list[tuple[int, int, int, int]]:
        """The (log, partition, first, next) offsets that were deleted before they were stored."""
        if "deleted_unread" not in self._db.table_names():  # until a store of this version opens it
            return []
        return self._connection.execute("SELECT * FROM deleted_unread").fetchall()

    def between(
        self, log_id: int, partition: int, first: int, last: int
    ) -> Iterator[dict[str, Any]]:
        """Task id, offset and value of the rows of a range of offsets of one partition."""
        ends = _positions(log_id, partition, first, last)
        return self._db[self._view].rows_where(WITHIN, ends, select='task_id, "offset", value')

    def positions(self) -> dict[tuple[int, int], int]:
        """Of each partition of each log, the offset that the sink reads next."""
        query = "SELECT log, partition, next_offset FROM projection_offset"
        return {(log, partition): n for log, partition, n in self._connection.execute(query)}

    def following(self, log: int, partition: int, first: int, limit: int) -> list[dict[str, Any]]:
        """At most `limit` rows of one partition from an offset on, in the order of offsets."""
        ends = _positions(log, partition, first, MAX_OFFSET)
        # A block's own order is that of positions; to sort by them would read all blocks first.
        rows = self._db[self._view].rows_where(WITHIN, ends, order_by="block", limit=limit)
        return list(rows)

    def other_offsets(self, log_id: int, partition: int, first: int, last: int) -> set[int]:
        """The offsets of a range that are duplicates or unreadable."""
        query = " UNION ALL ".join(
            f'SELECT "offset" FROM {table} WHERE log = :log AND partition = :partition '  # noqa: S608
            'AND "offset" BETWEEN :first AND :last'
            for table in ("duplicate", "unreadable")
        )
        args = {"log": log_id, "partition": partition, "first": first, "last": last}
        return {offset for (offset,) in self._connection.execute(query, args)}

    def count_below(self, log_id: int, starts: Mapping[int, int]) -> int:
        """How many rows have offsets that the log no longer has."""
        query = "SELECT count(*) FROM result_key WHERE position BETWEEN :first AND :last"
        return sum(
            self._connection.execute(query, _positions(log_id, p, 0, start - 1)).fetchone()[0]
            for p, start in starts.items()
        )

    def audit(self) -> Audit:
        """Count the records that were read, and the rows of each table."""
        records = self._connection.execute(
            "SELECT coalesce(sum(next_offset - first_offset - missing), 0) FROM projection_offset"
        ).fetchone()[0]
        results, duplicates, unreadable = (
            self._db[name].count for name in ("result_key", "duplicate", "unreadable")
        )
        conflicts = self._db["duplicate"].count_where("error_code = 'id_conflict'")
        return Audit(results, duplicates, unreadable, records, conflicts)
