"""The SQLite file of the projection: opening it, transactions, and many rows by one statement."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

from streams.errors import StoreError
from streams.projection.schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION, check_file

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
CREATE = f"""
BEGIN IMMEDIATE;
PRAGMA application_id={APPLICATION_ID};
PRAGMA user_version={SCHEMA_VERSION};
{SCHEMA}
COMMIT;
"""
ROWS_AT_ONCE = 500  # SQLite takes 32,766 values at once


def open_writer(path: Path) -> sqlite3.Connection:
    """The database for its one writer, created if need be; raises StoreError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    db = _connect(str(path), path, isolation_level=None, check_same_thread=False)
    with closing_on_error(db, f"{path} cannot be used as a projection"):
        check_file(db, path)
        for pragma in WRITER_PRAGMAS:
            db.execute(f"PRAGMA {pragma}")
        db.executescript(CREATE)
    return db


def open_reader(path: Path) -> sqlite3.Connection:
    """The database for reading beside its writer; raises StoreError."""
    if not path.exists():
        raise StoreError(f"there is no database at {path}; the sink creates it (make up)")
    db = _connect(path.absolute().as_uri() + "?mode=ro", path, uri=True)
    with closing_on_error(db, f"{path} cannot be read"):
        db.execute("PRAGMA query_only=ON")
        check_file(db, path)
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'result_key'").fetchone():
            raise StoreError(f"{path} holds no results yet")
    return db


def _connect(name: str, path: Path, **options: Any) -> sqlite3.Connection:
    try:
        db: sqlite3.Connection = sqlite3.connect(name, **options)
    except sqlite3.OperationalError as e:
        raise StoreError(f"{path} cannot be opened as a database: {e}") from e
    return db


@contextmanager
def closing_on_error(db: sqlite3.Connection, problem: str) -> Iterator[None]:
    """Close the connection if the block fails; an error of SQLite becomes a StoreError."""
    try:
        yield
    except sqlite3.DatabaseError as e:
        db.close()
        raise StoreError(f"{problem}: {e}") from e
    except StoreError:
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
