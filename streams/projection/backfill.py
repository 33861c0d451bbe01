"""Copy from an older projection the rows whose records the log no longer has."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from streams.projection.database import transaction
from streams.projection.logs import enter_newest
from streams.projection.schema import OLDEST_VERSION, position_of

COPY_KEYS = """
INSERT INTO result_key SELECT task_id, position FROM old.result_key
LEFT JOIN start ON start.partition = position >> 40 & 1023
WHERE position >> 50 <> :log OR position & 1099511627775 < start.first
"""
COPY_BLOCKS = """
INSERT INTO result_block SELECT old_block.* FROM old.result_block AS old_block
LEFT JOIN start ON start.partition = position >> 40 & 1023
WHERE position >> 50 <> :log OR position & 1099511627775 < start.first
"""
# A block may continue past the log's start; the records from there on are reread.
CUT_BLOCKS = """
UPDATE result_block SET answers = (
  SELECT json_group_array(json(value)) FROM json_each(answers)
  WHERE result_block.position + key < :end)
WHERE position = (SELECT max(position) FROM result_block WHERE position BETWEEN :start AND :end - 1)
  AND position + json_array_length(answers) > :end
"""
COPY_UNREADABLE = """
INSERT INTO unreadable
SELECT x.log, x.partition, x."offset", x.reason, x.value, {task_id} FROM old.unreadable x
LEFT JOIN start USING (partition) WHERE x.log <> :log OR x."offset" < start.first
"""
# Not if the first result is still to be read, from another partition.
COPY_DUPLICATES = """
INSERT INTO duplicate SELECT x.* FROM old.duplicate x
LEFT JOIN start USING (partition) WHERE (x.log <> :log OR x."offset" < start.first)
  AND task_id IN (SELECT task_id FROM result_key)
"""
# An offset below the log's start and in no table was never read, or was a gap.
RESUME_AT_START = """
INSERT INTO projection_offset(log, partition, next_offset, first_offset, missing)
SELECT o.log, o.partition, start.first, o.first_offset, start.first - o.first_offset
  - (SELECT count(*) FROM result_key
     WHERE position >> 50 = o.log AND position >> 40 & 1023 = o.partition)
  - (SELECT count(*) FROM duplicate d WHERE d.log = o.log AND d.partition = o.partition)
  - (SELECT count(*) FROM unreadable u WHERE u.log = o.log AND u.partition = o.partition)
FROM old.projection_offset o JOIN start USING (partition)
WHERE o.log = :log AND start.first > o.first_offset
"""


def copy_expired(
    db: sqlite3.Connection, name: str, old: Path, starts: Mapping[int, int]
) -> tuple[str, int]:
    """See `Store.backfill`. Returns the name of the log, which may have changed, and the rows."""
    db.execute("ATTACH DATABASE ? AS old", (str(old),))
    db.execute("CREATE TEMP TABLE start(partition INTEGER PRIMARY KEY, first)")
    db.executemany("INSERT INTO start VALUES (?, ?)", starts.items())
    with transaction(db):
        log, name = _adopt_logs(db, name)
        rows = _copy(db, log)
        for partition, first in starts.items():
            start = position_of(log, partition, 0)
            db.execute(CUT_BLOCKS, {"start": start, "end": start + first})
    db.execute("DETACH DATABASE old")
    return name, rows


def _adopt_logs(db: sqlite3.Connection, name: str) -> tuple[int, str]:
    """Rows keep the number of their log. Returns number and name of the log to go on with."""
    db.execute("DELETE FROM log")
    db.execute("INSERT INTO log SELECT * FROM old.log")
    return enter_newest(db, name)


def _copy(db: sqlite3.Connection, log: int) -> int:
    rows = db.execute(COPY_KEYS, {"log": log}).rowcount
    db.execute(COPY_BLOCKS, {"log": log})
    db.execute(COPY_DUPLICATES, {"log": log})
    (version,) = db.execute("PRAGMA old.user_version").fetchone()
    task_id = "NULL" if version == OLDEST_VERSION else "x.task_id"
    db.execute(COPY_UNREADABLE.format(task_id=task_id), {"log": log})
    db.execute(
        "INSERT INTO projection_offset SELECT * FROM old.projection_offset WHERE log <> ?", (log,)
    )
    db.execute(RESUME_AT_START, {"log": log})
    return rows
