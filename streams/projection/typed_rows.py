"""The table `result_row`: the stored results in typed columns, for the view `result`.

A row with its indexes costs more than all else that is stored of a result, and the sink must keep
up with a worker at full speed. So a small transaction writes its rows at once, and those of large
ones, or of a database of an older version, follow in steps: long ones when the sink has nothing to
store, and a short one a second while it has. Our own readers do not wait for it: they read the
blocks.
"""

import sqlite3
from collections.abc import Mapping, Sequence

from streams.projection.blocks import Contents
from streams.projection.database import insert
from streams.projection.schema import STORED, position_of

AT_ONCE_RECORDS = 256  # of one transaction: about 5 ms
STEP_BLOCKS = 1024  # of one step: up to 32,768 rows, about a second
SHORT_STEP_BLOCKS = 64  # up to 2,048 rows, about 50 ms

# Not from the view: with trusted_schema off, SQLite runs no JSON function of a view.
ADD = f"""
INSERT INTO result_row SELECT
  position, task_id, status,
  CASE json_type(y, '$[0]') WHEN 'text' THEN json_extract(y, '$[0]') ELSE y -> '$[0]' END,
  CASE WHEN json_type(y, '$[0]') IN ('integer', 'real') THEN json_extract(y, '$[0]') END,
  json_array_length(y), y, proba, error_code, error_message, input, model, worker, task_partition,
  task_offset, queue_ms, infer_ms, log, partition, "offset", answered_at_ms
FROM ({STORED}) WHERE block BETWEEN ? AND ? ORDER BY block
ON CONFLICT(position) DO NOTHING
"""  # noqa: S608
SET_OFFSET = "ON CONFLICT(log, partition) DO UPDATE SET next_offset = excluded.next_offset"
LEFT = """
SELECT log, partition, coalesce(r.next_offset, 0), o.next_offset FROM projection_offset AS o
LEFT JOIN result_row_offset AS r USING (log, partition)
WHERE o.next_offset > coalesce(r.next_offset, 0) ORDER BY log DESC, partition
"""
LAST_OF_STEP = """
SELECT max(position), count(*) FROM (
  SELECT position FROM result_block WHERE position BETWEEN ? AND ? ORDER BY position LIMIT ?)
"""


def add_at_once(
    db: sqlite3.Connection, log: int, parts: Sequence[Contents], stored: Mapping[int, int]
) -> None:
    """In the transaction of a few `parts`, add their rows too.

    `stored`: the offsets that followed the stored records before. A partition whose earlier rows
    have not been added yet is left to `add_later`.
    """
    if sum(part.records for part in parts) > AT_ONCE_RECORDS:
        return
    query = "SELECT partition, next_offset FROM result_row_offset WHERE log = ?"
    done = dict(db.execute(query, (log,)))
    ends = dict(stored)
    for part in parts:
        partition = part.partition
        if done.get(partition) == ends.get(partition):
            start = position_of(log, partition, 0)
            db.execute(ADD, (start + part.first, start + part.end - 1))
            _set_offset(db, log, partition, part.end)
            done[partition] = part.end
        ends[partition] = part.end


def add_later(db: sqlite3.Connection, most: int) -> bool:
    """In a transaction of its own, add the rows of `most` blocks of those that are left.

    Returns whether there were any.
    """
    left = db.execute(LEFT).fetchone()
    if left is None:
        return False
    log, partition, first, end = left
    start = position_of(log, partition, 0)
    last, blocks = db.execute(LAST_OF_STEP, (start + first, start + end - 1, most)).fetchone()
    if blocks:
        db.execute(ADD, (start + first, last))
    _set_offset(db, log, partition, last - start + 1 if blocks == most else end)
    return True


def count_left(db: sqlite3.Connection) -> int:
    """The number of offsets whose rows are left."""
    return sum(end - first for *_, first, end in db.execute(LEFT))


def _set_offset(db: sqlite3.Connection, log: int, partition: int, offset: int) -> None:
    insert(db, "INTO result_row_offset", [(log, partition, offset)], SET_OFFSET)
