"""The index of task ids, table `result_key`, filled by one statement per transaction.

To bind a value costs as much as to store it. So the ids of a transaction are bound as one
string of bytes, which SQLite splits and sorts.
"""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from streams.projection.database import insert

NUMBERS = "CREATE TEMP TABLE number(n INTEGER PRIMARY KEY)"
RANGES = "CREATE TEMP TABLE id_range(first INTEGER PRIMARY KEY, last INTEGER, shift INTEGER)"
MORE_NUMBERS = """
WITH RECURSIVE more(n) AS (VALUES (?) UNION ALL SELECT n + 1 FROM more WHERE n + 1 < ?)
INSERT INTO number SELECT n FROM more
"""
GIVEN = """
SELECT n, CAST(substr(?, 36 * n + 1, 36) AS TEXT) AS task_id, n + shift AS position
FROM id_range CROSS JOIN number ON n BETWEEN first AND last
"""
# OR ROLLBACK: see `insert` in database.py.
ADD = f"""
INSERT OR ROLLBACK INTO result_key
SELECT task_id, position FROM ({GIVEN}) ORDER BY task_id, position
ON CONFLICT(task_id) DO NOTHING
"""  # noqa: S608
# In the order of the stored results, so that SQLite parses each block once.
FIND_REPEATED = f"""
SELECT given.n, given.position, task_id, json_extract(
  answers, '$[' || (result_key.position - result_block.position) || ']')
FROM ({GIVEN}) AS given JOIN result_key USING (task_id) JOIN result_block
  ON result_block.position = (
    SELECT max(position) FROM result_block WHERE position <= result_key.position)
WHERE given.position <> result_key.position
ORDER BY result_key.position
"""  # noqa: S608


class IdRange(NamedTuple):
    """Ids at consecutive positions, by their numbers in the transaction: the position of the n-th
    id is n + `shift`."""

    first: int
    last: int
    shift: int


class Repeat(NamedTuple):
    """The id with this `number` has a result already; `kept` is the JSON of that one."""

    number: int
    position: int
    task_id: str
    kept: str


class TaskIndex:
    """Writes the index. `ids` are task ids without a separator."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._numbers = 0
        db.execute(NUMBERS)
        db.execute(RANGES)

    def reserve(self, count: int) -> None:
        """Prepare for so many ids; not in a transaction, which may be rolled back."""
        if count > self._numbers:
            self._db.execute(MORE_NUMBERS, (self._numbers, count))
            self._numbers = count

    def add(self, ids: bytes, ranges: Sequence[IdRange]) -> int:
        """Store the position of each id that has none yet; returns how many were new."""
        self._db.execute("DELETE FROM id_range")
        insert(self._db, "INTO id_range", ranges)
        return self._db.execute(ADD, (ids,)).rowcount

    def repeated(self, ids: bytes) -> list[Repeat]:
        """The ids of the last `add` that were not new."""
        return [Repeat(*found) for found in self._db.execute(FIND_REPEATED, (ids,))]
