"""One writer per database file."""

import fcntl
import os
from pathlib import Path

from streams.errors import StoreError


class WriterLock:
    """Whoever writes a database file holds this lock; SQLite's own would let two take turns.

    Two processes that write and checkpoint one file can corrupt it before SQLite 3.51.3
    (sqlite.org/wal.html#walresetbug). The kernel frees the lock when its holder dies.
    """

    def __init__(self, database: Path) -> None:
        database.parent.mkdir(parents=True, exist_ok=True)
        self._path = database.with_name(database.name + ".writer.lock")
        self._fd: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock if nobody has it."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def release(self) -> None:
        """Give it up; the file stays, so that nobody locks a name that is gone."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> "WriterLock":
        if not self.try_acquire():
            raise StoreError(
                f"a sink is writing {self._path.stem.removesuffix('.writer')}; stop it"
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
