"""Which answer is which task's: the table `result_key`, filled by one statement per transaction.

To bind a value costs as much as to store it. So the ids of a transaction are bound as one
string of bytes, and SQLite takes them apart and sorts them.
"""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from streams.projection import database as bulk

NUMBERS = "CREATE TEMP TABLE number(n INTEGER PRIMARY KEY)"
SPANS = "CREATE TEMP TABLE span(first INTEGER PRIMARY KEY, last INTEGER, shift INTEGER)"
MORE_NUMBERS = """
WITH RECURSIVE more(n) AS (VALUES (?) UNION ALL SELECT n + 1 FROM more WHERE n + 1 < ?)
INSERT INTO number SELECT n FROM more
"""
GIVEN = """
SELECT n, CAST(substr(?, 36 * n + 1, 36) AS TEXT) AS task_id, n + shift AS position
FROM span CROSS JOIN number ON n BETWEEN first AND last
"""
# What fails rolls the whole transaction back. With SQLite's default, OR ABORT, it would keep a
# journal of every page that the statement changes.
ADD = f"""
INSERT OR ROLLBACK INTO result_key
SELECT task_id, position FROM ({GIVEN}) ORDER BY task_id, position
ON CONFLICT(task_id) DO NOTHING
"""  # noqa: S608
# In the order of what is kept: SQLite parses the block of one answer after the other once.
FIND_REPEATED = f"""
SELECT given.n, given.position, task_id, json_extract(
  answers, '$[' || (result_key.position - result_block.position) || ']')
FROM ({GIVEN}) AS given JOIN result_key USING (task_id) JOIN result_block
  ON result_block.position = (
    SELECT max(position) FROM result_block WHERE position <= result_key.position)
WHERE given.position <> result_key.position
ORDER BY result_key.position
"""  # noqa: S608


class Span(NamedTuple):
    """Ids of consecutive positions, by their numbers among the transaction's ids: the n-th
    one's position is n + `shift`."""

    first: int
    last: int
    shift: int


class Repeat(NamedTuple):
    """The id of this `number` is another answer's already; `kept` is that one's JSON."""

    number: int
    position: int
    task_id: str
    kept: str


class Keys:
    """The table's writer. `ids` are task ids without anything between."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._numbers = 0
        db.execute(NUMBERS)
        db.execute(SPANS)

    def reserve(self, count: int) -> None:
        """Get ready for so many ids; not within a transaction, which may be rolled back."""
        if count > self._numbers:
            self._db.execute(MORE_NUMBERS, (self._numbers, count))
            self._numbers = count

    def add(self, ids: bytes, spans: Sequence[Span]) -> int:
        """Note the position of each id that has none yet; returns how many were new."""
        self._db.execute("DELETE FROM span")
        bulk.insert(self._db, "INTO span", spans)
        return self._db.execute(ADD, (ids,)).rowcount

    def repeated(self, ids: bytes) -> list[Repeat]:
        """Those of the ids last added that were not new."""
        return [Repeat(*found) for found in self._db.execute(FIND_REPEATED, (ids,))]
