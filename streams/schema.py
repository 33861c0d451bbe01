"""The projection's tables, and the check that a file is one of ours."""

import sqlite3
from pathlib import Path

APPLICATION_ID = 0x5045544C  # "PETL"
SCHEMA_VERSION = 2

SCHEMA = """
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
CREATE TABLE IF NOT EXISTS result(
  task_id TEXT NOT NULL PRIMARY KEY CHECK(length(task_id) = 36 AND task_id = lower(task_id)),
  status TEXT NOT NULL CHECK(status IN ('ok', 'error')),
  y TEXT,
  proba TEXT,
  error_code TEXT,
  error_message TEXT,
  input TEXT CHECK(length(input) = 16),
  model TEXT NOT NULL,
  worker TEXT NOT NULL,
  task_partition INTEGER NOT NULL,
  task_offset INTEGER NOT NULL,
  queue_ms REAL NOT NULL,
  infer_ms REAL NOT NULL,
  log INTEGER NOT NULL REFERENCES log(id),
  partition INTEGER NOT NULL,
  "offset" INTEGER NOT NULL,
  answered_at_ms INTEGER NOT NULL,
  CHECK((status = 'ok') = (y IS NOT NULL)),
  CHECK((status = 'error') = (error_code IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS result_position ON result(log, partition, "offset");
CREATE TABLE IF NOT EXISTS duplicate(
  log INTEGER NOT NULL REFERENCES log(id),
  partition INTEGER NOT NULL,
  "offset" INTEGER NOT NULL,
  task_id TEXT NOT NULL REFERENCES result(task_id),
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
  PRIMARY KEY(log, partition, "offset")
) STRICT, WITHOUT ROWID;
"""

WRITER_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=5000",
    "foreign_keys=ON",
    "trusted_schema=OFF",
    "cell_size_check=ON",
    "mmap_size=0",
    "journal_size_limit=67108864",
    "cache_size=-262144",  # KiB; random keys touch the whole index
)


class StoreError(Exception):
    """A file that is no projection of ours, or one that cannot be opened."""


def check_file(db: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError for a database of another program or of a newer petalstream."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    application = db.execute("PRAGMA application_id").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise StoreError(f"{path} is a database of another program; set PETAL_DATABASE")
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path} was written by a newer petalstream (schema {version})")
    if tables and version < SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by an older petalstream (schema {version}); "
            "move it away, the sink makes it again from the log"
        )
