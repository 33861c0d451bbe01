"""One writer per database file."""

from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from streams.errors import StoreError
from streams.projection.faults import explained


class WriterLock:
    """The lock of the process that writes a database file; SQLite's own would let two take turns.

    Two processes that write and checkpoint one file can corrupt it before SQLite 3.51.3
    (sqlite.org/wal.html#walresetbug). The kernel frees the lock when its holder dies. The lock
    file stays after a release, so that all lock the same inode.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._lock = FileLock(
            database.with_name(database.name + ".writer.lock"),
            mode=0o600,
            blocking=False,
            thread_local=False,
            fallback_to_soft=False,  # a lock by a file's existence would outlive its holder
        )

    def try_acquire(self) -> bool:
        """Take the lock unless another process has it; raises StoreError, or StoreBusy."""
        with explained(self._database, write=True):
            self._database.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout:
                return False
        return True

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> Self:
        if not self.try_acquire():
            raise StoreError(f"a sink is writing {self._database}; stop it first")
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
