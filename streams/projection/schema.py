"""The projection's tables, and the check that a file is a projection."""

import sqlite3
from pathlib import Path

from streams.errors import StoreError
from streams.projection.blocks import BLOCK_ROWS

APPLICATION_ID = 0x5045544C  # "PETL"
SCHEMA_VERSION = 5
OLDEST_VERSION = 4  # that is read, and that a store brings up to date

# The results as they are stored, complete at any time.
STORED = f"""SELECT
  task_id,
  iif(json_type(value, '$.error') IS NULL, 'ok', 'error') AS status,
  json_extract(value, '$.y') AS y,
  json_extract(value, '$.proba') AS proba,
  json_extract(value, '$.error.code') AS error_code,
  json_extract(value, '$.error.message') AS error_message,
  json_extract(value, '$.input') AS input,
  json_extract(value, '$.model') AS model,
  json_extract(value, '$.worker') AS worker,
  json_extract(value, '$.task.partition') AS task_partition,
  json_extract(value, '$.task.offset') AS task_offset,
  json_extract(value, '$.ms.queue') AS queue_ms,
  json_extract(value, '$.ms.infer') AS infer_ms,
  result_key.position >> 50 AS log,
  result_key.position >> 40 & 1023 AS partition,
  result_key.position & 1099511627775 AS "offset",
  answered_at_ms,
  result_key.position AS position,
  value,  -- the answer's JSON
  result_block.position AS block
FROM result_block, json_each(answers) AS answer, result_key
WHERE result_key.task_id = json_extract(value, '$.id')
  AND result_key.position = result_block.position + answer.key
  AND result_block.position
    BETWEEN result_key.position - {BLOCK_ROWS - 1} AND result_key.position"""  # noqa: S608
SCHEMA = f"""
-- `cluster` is the id of the cluster and of the topic.
CREATE TABLE IF NOT EXISTS log(
  id INTEGER PRIMARY KEY,
  cluster TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE IF NOT EXISTS projection_offset(
  log INTEGER NOT NULL REFERENCES log(id),
  partition INTEGER NOT NULL CHECK(partition >= 0),
  next_offset INTEGER NOT NULL CHECK(next_offset >= 0),
  first_offset INTEGER NOT NULL CHECK(first_offset >= 0),
  missing INTEGER NOT NULL CHECK(missing >= 0),  -- offsets that the log does not have
  PRIMARY KEY(log, partition)
) STRICT, WITHOUT ROWID;
-- Offsets whose records the broker deleted before they could be stored.
CREATE TABLE IF NOT EXISTS deleted_unread(
  log INTEGER NOT NULL REFERENCES log(id),
  partition INTEGER NOT NULL CHECK(partition >= 0),
  first_offset INTEGER NOT NULL CHECK(first_offset >= 0),
  next_offset INTEGER NOT NULL CHECK(next_offset > first_offset),
  PRIMARY KEY(log, partition, first_offset)
) STRICT, WITHOUT ROWID;
-- Answers of consecutive offsets and one time, in the order of the log.
CREATE TABLE IF NOT EXISTS result_block(
  position INTEGER PRIMARY KEY,  -- of the first: log, partition and offset in one number
  answered_at_ms INTEGER NOT NULL,
  answers TEXT NOT NULL  -- a JSON array
) STRICT;
-- Which answer is a task's. What of a block is not named here is a repeated answer.
CREATE TABLE IF NOT EXISTS result_key(
  task_id TEXT PRIMARY KEY,
  position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS result_block_deleted AFTER DELETE ON result_block BEGIN
  DELETE FROM result_key
  WHERE task_id IN (SELECT json_extract(value, '$.id') FROM json_each(old.answers))
    AND position BETWEEN old.position AND old.position + {BLOCK_ROWS - 1};
END;
CREATE TRIGGER IF NOT EXISTS result_key_deleted AFTER DELETE ON result_key BEGIN
  DELETE FROM result_row WHERE position = old.position;
END;
-- For people and their tools, the same results in typed columns; see the view `result`.
CREATE TABLE IF NOT EXISTS result_row(
  position INTEGER PRIMARY KEY,
  task_id TEXT NOT NULL,
  status TEXT NOT NULL,  -- ok or error
  label TEXT,  -- the answer to the task's first row, as text
  number REAL,  -- the same, if it is a number
  row_count INTEGER,  -- rows of the task that have an answer
  y TEXT,  -- all answers, a JSON array
  proba TEXT,
  error_code TEXT,
  error_message TEXT,
  input TEXT,
  model TEXT NOT NULL,
  worker TEXT NOT NULL,
  task_partition INTEGER NOT NULL,
  task_offset INTEGER NOT NULL,
  queue_ms REAL NOT NULL,
  infer_ms REAL NOT NULL,
  log INTEGER NOT NULL,
  partition INTEGER NOT NULL,
  "offset" INTEGER NOT NULL,
  answered_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS result_row_task ON result_row(task_id);
CREATE INDEX IF NOT EXISTS result_row_time ON result_row(answered_at_ms);
CREATE INDEX IF NOT EXISTS result_row_label ON result_row(label, answered_at_ms);
CREATE INDEX IF NOT EXISTS result_row_model ON result_row(model, answered_at_ms);
CREATE INDEX IF NOT EXISTS result_row_error ON result_row(error_code, answered_at_ms);
CREATE INDEX IF NOT EXISTS result_row_status ON result_row(status, answered_at_ms);
-- Up to where each partition is in result_row; no row: from its beginning.
CREATE TABLE IF NOT EXISTS result_row_offset(
  log INTEGER NOT NULL,
  partition INTEGER NOT NULL,
  next_offset INTEGER NOT NULL,
  PRIMARY KEY(log, partition)
) STRICT, WITHOUT ROWID;
-- Columns of a table alone: for a subquery of a view, DuckDB looks up each row, for minutes.
CREATE VIEW IF NOT EXISTS result AS SELECT
  task_id, status, label, number, row_count, y, proba, error_code, error_message, input, model,
  worker, task_partition, task_offset, queue_ms, infer_ms, log, partition, "offset",
  answered_at_ms, position
FROM result_row;
CREATE VIEW IF NOT EXISTS result_json AS {STORED};
CREATE TABLE IF NOT EXISTS duplicate(
  log INTEGER NOT NULL REFERENCES log(id),
  partition INTEGER NOT NULL,
  "offset" INTEGER NOT NULL,
  task_id TEXT NOT NULL REFERENCES result_key(task_id),
  same_answer INTEGER NOT NULL CHECK(same_answer IN (0, 1)),
  error_code TEXT CHECK(error_code = 'id_conflict'),  -- the id was another task's
  PRIMARY KEY(log, partition, "offset")
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unreadable(
  log INTEGER NOT NULL REFERENCES log(id),
  partition INTEGER NOT NULL,
  "offset" INTEGER NOT NULL,
  reason TEXT NOT NULL,
  value BLOB,
  task_id TEXT,  -- the record's key, if that is a task id
  PRIMARY KEY(log, partition, "offset")
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS unreadable_task ON unreadable(task_id) WHERE task_id IS NOT NULL;
"""  # noqa: S608

# A position's bits: 13 for the log, 10 for the partition, 40 for the offset; a file with more
# rows of one partition would be larger than SQLite allows.
MAX_LOG, MAX_PARTITION, MAX_OFFSET = 2**13 - 1, 2**10 - 1, 2**40 - 1

# By one statement: the sink may create the tables meanwhile.
FILE_HEADER = """
SELECT user_version, application_id, (SELECT count(*) FROM sqlite_master)
FROM pragma_user_version, pragma_application_id
"""


def position_of(log: int, partition: int, offset: int) -> int:
    """The number under which a record's row is stored, in the order of its partition's log.

    Raises StoreError if it cannot be stored.
    """
    if log > MAX_LOG or partition > MAX_PARTITION or offset > MAX_OFFSET:
        raise StoreError(
            f"a projection holds logs up to {MAX_LOG}, partitions up to {MAX_PARTITION} and "
            f"offsets up to {MAX_OFFSET}, but this is log {log}, results[{partition}] at {offset}; "
            "move the database aside and the sink builds a new one"
        )
    return log << 50 | partition << 40 | offset


def place_of(position: int) -> tuple[int, int, int]:
    """The (log, partition, offset) of a position."""
    return position >> 50, position >> 40 & MAX_PARTITION, position & MAX_OFFSET


def check_file(db: sqlite3.Connection, path: Path) -> int:
    """The version of a projection's schema, 0 for an empty file.

    Raises StoreError for a database of another program or of a version that cannot be read.
    """
    version, application, tables = db.execute(FILE_HEADER).fetchone()
    if tables and application != APPLICATION_ID:
        raise StoreError(f"{path} is a database of another program; set PETAL_DATABASE")
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path} was written by a newer petalstream (schema {version})")
    if tables and version < OLDEST_VERSION:
        raise StoreError(
            f"{path} was written by an older petalstream (schema {version}); "
            "move it aside and the sink rebuilds it from the log"
        )
    return int(version)
