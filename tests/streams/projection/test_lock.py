"""One writer per database file."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from streams.errors import StoreError
from streams.projection.lock import WriterLock
from tests.processes import ROOT

HOLD = """
import sys, time
from pathlib import Path
from streams.projection.lock import WriterLock
lock = WriterLock(Path(sys.argv[1]))
print(lock.try_acquire(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def lock_file(path: Path) -> Path:
    return path.with_name(path.name + ".writer.lock")


def test_only_one_process_may_write(path: Path) -> None:
    first, second = WriterLock(path), WriterLock(path)
    assert first.try_acquire()
    assert not second.try_acquire()
    with pytest.raises(StoreError, match="stop it"), second:
        pass
    first.release()
    with second:
        assert not first.try_acquire()
    assert first.try_acquire()
    first.release()


def test_the_lock_of_a_killed_process_is_free(path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert not WriterLock(path).try_acquire()
        holder.kill()
    with WriterLock(path):
        pass


def test_the_lock_is_the_kernels_so_other_versions_respect_it(path: Path, lock_file: Path) -> None:
    with lock_file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert not WriterLock(path).try_acquire()
    with WriterLock(path), lock_file.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_lock_file_stays_so_that_all_lock_the_same_inode(path: Path, lock_file: Path) -> None:
    with WriterLock(path):
        inode = lock_file.stat().st_ino
    with WriterLock(path):
        assert lock_file.stat().st_ino == inode
    assert lock_file.stat().st_mode & 0o777 == 0o600
