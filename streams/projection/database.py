"""The SQLite file of the projection: opening it, transactions, and many rows by one statement."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

from streams.errors import NoProjection
from streams.projection.faults import explained, has_unapplied_changes
from streams.projection.schema import (
    APPLICATION_ID,
    OLDEST_VERSION,
    SCHEMA,
    SCHEMA_VERSION,
    check_file,
)

WRITER_PRAGMAS = (
    "page_size=16384",  # of a new file: a large transaction changes most pages, whatever their size
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=5000",
    "foreign_keys=ON",
    "trusted_schema=OFF",
    "cell_size_check=ON",
    "mmap_size=0",
    "secure_delete=OFF",
    "temp_store=MEMORY",
    # In pages: each checkpoint writes most pages of the keys, so few of them cost least.
    "wal_autocheckpoint=4096",
    "journal_size_limit=67108864",
    "cache_size=-65536",  # KiB
)
# In one transaction: a reader must not take half of it for a database of another program.
_BEGIN = f"""
BEGIN IMMEDIATE;
PRAGMA application_id={APPLICATION_ID};
PRAGMA user_version={SCHEMA_VERSION};
"""
CREATE = f"{_BEGIN} {SCHEMA} COMMIT;"
# From OLDEST_VERSION on; `streams.projection.typed_rows` fills the new table, in steps.
MIGRATE = f"""
{_BEGIN}
DROP VIEW result;
ALTER TABLE unreadable RENAME TO unreadable_before;
{SCHEMA}
INSERT INTO unreadable SELECT *, NULL FROM unreadable_before;
DROP TABLE unreadable_before;
COMMIT;
"""  # noqa: S608
NOT_WRITABLE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
ROWS_AT_ONCE = 500  # SQLite takes 32,766 values at once


def open_writer(path: Path) -> sqlite3.Connection:
    """The database for its one writer, created if need be.

    Raises StoreBusy while it is locked or the disk is full, and StoreError if a person must act.
    """
    with explained(path, write=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        with closing_on_error(db):
            version = check_file(db, path)
            for pragma in WRITER_PRAGMAS:
                db.execute(f"PRAGMA {pragma}")
            db.executescript(MIGRATE if version == OLDEST_VERSION else CREATE)
    return db


def open_reader(path: Path) -> sqlite3.Connection:
    """The database for reading beside its writer; raises StoreError, or StoreBusy."""
    with explained(path):
        if not path.exists():
            raise NoProjection(f"there is no database at {path}; the sink creates it (petal up)")
        db = _connect_reader(path)
        with closing_on_error(db):
            db.execute("PRAGMA query_only=ON")
            check_file(db, path)
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'result_key'").fetchone():
                raise NoProjection(f"{path} holds no results yet")
    return db


def _connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads.

    To read a database beside a writer takes the -shm file. Where it is missing and this account
    may not create it, there is no writer, and the file alone is the database.
    """
    address = path.absolute().as_uri() + "?mode=ro"
    db = sqlite3.connect(address, uri=True)
    try:
        db.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError as e:
        db.close()
        if e.sqlite_errorcode & 0xFF not in NOT_WRITABLE or has_unapplied_changes(path):
            raise
        return sqlite3.connect(address + "&immutable=1", uri=True)
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


@contextmanager
def closing_on_error(db: sqlite3.Connection) -> Iterator[None]:
    """Close the connection if the block fails."""
    try:
        yield
    except BaseException:
        db.close()
        raise


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit what the block writes, or nothing of it.

    A deferred BEGIN would fail at once when another process writes, without a wait.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk has rolled back already
            db.execute("ROLLBACK")
        raise


def insert(
    db: sqlite3.Connection, into: str, rows: Iterable[Sequence[Any]], ending: str = ""
) -> None:
    """`INSERT {into} VALUES {rows} {ending}`, in few statements.

    With `executemany`, each row gives up the interpreter's lock, and the sink's event loop, busy
    with the next chunks, may keep it. An error rolls back the whole transaction: with SQLite's
    default, OR ABORT, it would keep a journal of every page that a statement changes.
    """
    left = iter(rows)
    while some := list(islice(left, ROWS_AT_ONCE)):
        row = f"({','.join('?' * len(some[0]))})"
        values = ",".join([row] * len(some))
        statement = f"INSERT OR ROLLBACK {into} VALUES {values} {ending}"  # noqa: S608
        db.execute(statement, tuple(chain.from_iterable(some)))
