"""Database files that cannot be used: what may pass, what a person must mend, and the sentence."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.errors import NoProjection, StoreBusy, StoreError
from streams.projection.lock import WriterLock
from streams.projection.reader import Audit, Reader
from streams.projection.store import Store
from tests.processes import ROOT, clean_environ
from tests.streams.projection.records import apply, records, result

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another account")

READ = """
from pathlib import Path
import sys
from streams.errors import StoreError
from streams.projection.reader import Reader
try:
    with Reader(Path(sys.argv[1])) as reader:
        print(reader.audit().results, len(list(reader.rows())))
except StoreError as e:
    print(type(e).__name__, e)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other accounts can reach; pytest closes its own to them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def read_as_nobody(path: Path) -> str:
    """What another account reads of a database: the counts of rows, or the error."""
    code = f"import os; os.setgroups([]); os.setuid({NOBODY})\n{READ}"
    # The interpreter must have imported what this account may not search for.
    preload = "import sqlite_utils, streams.projection.reader\nsqlite_utils.Database(memory=True)\n"
    done = subprocess.run(
        [sys.executable, "-c", preload + code, str(path)],
        cwd=ROOT, env=clean_environ(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.strip()


def filled(path: Path) -> Store:
    store = Store(path, "cluster")
    apply(store, 0, 0, records(result(0), result(1)))
    return store


def refuse(path: Path) -> list[StoreError]:
    """The errors of the three ways to use a database."""
    errors: list[StoreError] = []
    uses: list[Callable[[], object]] = [
        lambda: WriterLock(path).try_acquire(),
        lambda: Store(path, "cluster"),
        lambda: Reader(path),
    ]
    for use in uses:
        try:
            use()
        except StoreError as e:
            errors.append(e)
    return errors


def test_a_directory_is_refused_with_the_cure(tmp_path: Path) -> None:
    sentence = (
        f"{tmp_path} cannot be opened as a database: it is a directory; "
        "set PETAL_DATABASE to another file"
    )
    assert [str(e) for e in refuse(tmp_path)] == [sentence, sentence]


def test_a_path_through_a_file_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = refuse(tmp_path / "file" / "petal.sqlite")
    assert len(found) == 3
    assert not any(isinstance(e, StoreBusy) for e in found)
    assert all(str(e).endswith("set PETAL_DATABASE to another file") for e in found[:2])
    assert isinstance(found[2], NoProjection)


@pytest.mark.parametrize("begin", ["BEGIN EXCLUSIVE", "BEGIN IMMEDIATE"])
def test_a_locked_database_is_busy(path: Path, begin: str) -> None:
    filled(path).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        store = Store(path, "cluster")
        store._db.execute("PRAGMA busy_timeout=10")
        other.execute(begin)
        with pytest.raises(StoreBusy, match="database is locked"):
            apply(store, 0, 2, records(result(2), first=2))
        other.execute("ROLLBACK")
    apply(store, 0, 2, records(result(2), first=2))
    with Reader(path) as reader:
        assert reader.audit() == Audit(3, 0, 0, 3)


def test_a_full_database_is_busy(path: Path) -> None:
    store = filled(path)
    store._db.execute("PRAGMA max_page_count=1")
    many = records(*(result(n) for n in range(2, 2000)), first=2)
    with pytest.raises(StoreBusy, match="full"):
        apply(store, 0, 2, many)
    store._db.execute("PRAGMA max_page_count=100000")
    assert apply(store, 0, 2, many).new == 1998


def damage(path: Path) -> None:
    filled(path).close()
    data = bytearray(path.read_bytes())
    data[16384:] = b"\xff" * (len(data) - 16384)
    path.write_bytes(data)


def test_a_damaged_file_is_one_sentence(path: Path) -> None:
    damage(path)
    reading = pytest.raises(StoreError, match=r"is damaged: .*move it aside")
    with reading as found, Reader(path) as r:
        list(r.rows())
    assert not isinstance(found.value, StoreBusy)


@as_root
def test_a_database_that_may_only_be_read_is_read(folder: Path) -> None:
    path = folder / "petal.sqlite"
    store = filled(path)
    for file in folder.iterdir():
        file.chmod(0o644)
    assert read_as_nobody(path) == "2 2"  # beside its writer
    copy = folder / "copied"
    copy.mkdir()
    for file in folder.glob("petal.sqlite*"):
        shutil.copy(file, copy)
    assert read_as_nobody(copy / path.name) == "2 2"  # with the journals that a kill leaves
    store.close()
    assert [p.name for p in folder.iterdir() if p.is_file()] == [path.name]
    assert read_as_nobody(path) == "2 2"  # without journals
    path.with_name(path.name + "-wal").touch()
    assert read_as_nobody(path) == "2 2"


@as_root
def test_changes_that_another_account_cannot_read_are_not_left_out(folder: Path) -> None:
    path = folder / "petal.sqlite"
    store = filled(path)
    copy = folder / "copied"
    copy.mkdir()
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", copy)
    store.close()
    for file in copy.iterdir():
        file.chmod(0o644)
    found = read_as_nobody(copy / path.name)
    assert found.startswith("StoreError")
    assert f"this account may not use {copy}; run this as root" in found


@as_root
@pytest.mark.parametrize("closed", ["petal.sqlite", "petal.sqlite-wal", "petal.sqlite-shm", ""])
def test_a_file_of_another_account_is_named_with_its_owner(folder: Path, closed: str) -> None:
    path = folder / "petal.sqlite"
    store = filled(path)
    for file in folder.iterdir():
        file.chmod(0o644)
    target = folder / closed if closed else folder
    target.chmod(0o600)
    found = read_as_nobody(path)
    folder.chmod(0o755)
    store.close()
    assert found.startswith("StoreError")
    assert f"{target}" in found
    assert "set PETAL_DATABASE to another file" in found
