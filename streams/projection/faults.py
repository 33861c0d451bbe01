"""What an error of SQLite or of the system means for the projection's files.

StoreBusy for what may end by itself, StoreError for what only a person can mend. The sentence
names the file and what to do.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.files import cure, may_pass, refusal
from streams.errors import StoreBusy, StoreError

# By the lower byte of SQLite's codes; the rest is their detail, such as SQLITE_IOERR_WRITE.
BUSY = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_CANTOPEN,
)  # fmt: skip
REFUSED = (
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_IOERR,
)  # fmt: skip
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
ANOTHER_FILE = "set PETAL_DATABASE to another file"
MOVE_ASIDE = "move it aside and the sink builds a new one"


@contextmanager
def explained(path: Path, write: bool = False) -> Iterator[None]:
    """Raise an error of SQLite or of the system about the database at `path` as a StoreError.

    `write`: whether the database was to be written. Other errors of our own statements, such as a
    violated constraint, stay as they are.
    """
    try:
        yield
    except sqlite3.DatabaseError as e:
        if (error := explain(path, e, write)) is None:
            raise
        raise error from e
    except OSError as e:
        raise _of_system(path, e) from e


def explain(path: Path, error: sqlite3.DatabaseError, write: bool) -> StoreError | None:
    """What an error of SQLite means, or None if it is not about the file."""
    kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if kind == sqlite3.SQLITE_NOTADB:
        return StoreError(f"{path} cannot be read: {error}")
    if kind == sqlite3.SQLITE_CORRUPT:
        return StoreError(f"{path} is damaged: {error}; {MOVE_ASIDE} from the log")
    if kind in REFUSED and (obstacle := _obstacle(path, write)):
        return StoreError(f"{path} cannot be opened as a database: {obstacle}")
    if kind in BUSY:
        return StoreBusy(f"{path}: {error}")
    if kind in REFUSED:
        return StoreError(f"{path} cannot be opened as a database: {error}; {ANOTHER_FILE}")
    return None


def _of_system(path: Path, error: OSError) -> StoreError:
    file = Path(os.fsdecode(error.filename or path))
    reason = f"{path} cannot be opened as a database: {file}: {error.strerror}"
    if may_pass(error):
        return StoreBusy(reason)
    return StoreError(f"{reason}; {cure(file, ANOTHER_FILE)}")


def journals(path: Path) -> tuple[Path, Path]:
    """The write-ahead log of a database, and its index."""
    return path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def has_unapplied_changes(path: Path) -> bool:
    """Whether a database has changes that are in its write-ahead log only."""
    try:
        return journals(path)[0].stat().st_size > 0
    except OSError:
        return False


def _obstacle(path: Path, write: bool) -> str | None:
    """What a person must mend, or None if the system lets us open the files."""
    if path.is_dir():
        return f"it is a directory; {ANOTHER_FILE}"
    wanted = os.R_OK | os.W_OK if write else os.R_OK
    for file in (path, *journals(path)):
        if os.path.lexists(file) and not os.access(file, wanted):
            return refusal(file, ANOTHER_FILE)
    # A writer creates files beside it, and so does a reader who finds the log but not its index.
    index = journals(path)[1]
    creates = write or (has_unapplied_changes(path) and not index.exists())
    if not os.access(path.parent, os.X_OK | (os.W_OK if creates else 0)):
        return refusal(path.parent, ANOTHER_FILE)
    return None
