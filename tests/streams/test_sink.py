"""A sink that cannot use its database, or a process its status directory: real processes."""

import contextlib
import json
import os
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from streams.projection.store import Store
from tests.processes import Pipeline, Process, wait_until
from tests.streams.test_pipeline import publish, rows_for, settings_of, wait_for_rows

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program holds the database."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A small file system in memory."""
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(("size=4m", *options)), "none", str(folder)],
            check=True, capture_output=True,
        )  # fmt: skip
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("this account may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def state_of(pipeline: Pipeline) -> tuple[str, str]:
    """The state of the one sink, and why it waits."""
    done = pipeline.run("status", "--json", "--only", "sink")
    [report] = json.loads(done.stdout)["processes"]
    return report["state"], report["reason"]


def test_a_sink_that_starts_while_the_database_is_locked_waits(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    pipeline.worker(ready=False)
    Store(settings.database, "another").close()
    with locked(settings.database):
        sink = pipeline.sink(ready=False).wait_for("database is locked")
        asked = publish(settings, rows_for(50))
        waiting = ("waiting", f"{settings.database}: database is locked")
        wait_until(lambda: state_of(pipeline) == waiting, 10, "its status file has it")
        # It has tried again by then.
        wait_until(lambda: sink.exit_code is not None or _tries(sink) >= 2, 20, "a second try")
        assert (sink.exit_code, sink.output.count("cannot be written")) == (None, 1)
    sink.wait_for("can be written again")
    wait_for_rows(settings, len(asked))
    assert sink.stop() == 0


def _tries(sink: Process) -> int:
    """How often a sink has waited for the lock of SQLite, by the seconds that it has lived."""
    return int((psutil.time.time() - psutil.Process(sink.pid).create_time()) // 6)


def test_a_sink_that_waits_stops_at_once(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    Store(settings.database, "another").close()
    with locked(settings.database):
        sink = pipeline.sink(ready=False).wait_for("database is locked")
        assert sink.stop() == 0


@as_root
def test_a_sink_that_starts_while_the_disk_is_full_waits(pipeline: Pipeline) -> None:
    folder = pipeline.folder / "disk"
    with mounted(folder):
        ballast = folder / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            file.write(bytes(8_000_000))
        pipeline.env["PETAL_DATABASE"] = str(folder / "petal.sqlite")
        pipeline.env["PETAL_STATUS"] = str(folder / "status")
        settings = settings_of(pipeline)
        sink = pipeline.sink(ready=False).wait_for("cannot be written")
        pipeline.worker()
        asked = publish(settings, rows_for(10))
        assert sink.exit_code is None
        ballast.unlink()
        sink.wait_for("can be written again")
        wait_for_rows(settings, len(asked))
        wait_until(lambda: state_of(pipeline)[0] == "ready", 10, "its status file is written")
        assert sink.stop() == 0


def test_a_sink_whose_database_is_locked_for_long_is_no_stalled_process(
    pipeline: Pipeline,
) -> None:
    settings = settings_of(pipeline)
    pipeline.worker()
    pipeline.env["PETAL_STALL_TIMEOUT"] = "8"
    sink = pipeline.sink()
    with locked(settings.database):
        asked = publish(settings, rows_for(50))
        sink.wait_for("database is locked")
        wait_until(lambda: sink.exit_code is not None or _tries(sink) >= 3, 40, "twice the time")
        assert sink.exit_code is None
    wait_for_rows(settings, len(asked))


def refused(pipeline: Pipeline, kind: str = "sink") -> str:
    """The last line of a process that must end with 78 and no traceback."""
    process = pipeline.sink(ready=False) if kind == "sink" else pipeline.worker(ready=False)
    wait_until(lambda: process.exit_code is not None, 30, "its end")
    assert process.exit_code == 78, process.output
    assert "Traceback" not in process.output
    return process.output.splitlines()[-1].rpartition("petalstream: ")[2].strip()


@as_root
def test_what_only_a_person_can_mend_ends_with_78_and_a_line(pipeline: Pipeline) -> None:
    database = Path(pipeline.env["PETAL_DATABASE"])
    database.mkdir()
    another = "set PETAL_DATABASE to another file"
    wrong = f"{database} cannot be opened as a database"
    assert refused(pipeline) == f"{wrong}: it is a directory; {another}"
    done = pipeline.run("results")
    assert done.stderr == f"petal: {wrong}: it is a directory; {another}\n"
    database.rmdir()
    database.write_bytes(b"not a database " * 2000)
    assert refused(pipeline) == f"{database} cannot be read: file is not a database"
    with mounted(pipeline.folder / "disk", "ro"):
        pipeline.env["PETAL_DATABASE"] = str(pipeline.folder / "disk" / "petal.sqlite")
        assert refused(pipeline).endswith(f"Read-only file system; {another}")
        pipeline.env["PETAL_DATABASE"] = str(database)
        status = pipeline.folder / "disk" / "status"
        pipeline.env["PETAL_STATUS"] = str(status)
        advice = "Read-only file system; set PETAL_STATUS to another directory"
        for kind in ("sink", "worker"):
            assert refused(pipeline, kind) == f"no status file in {status}: {status}: {advice}"


def test_a_database_that_breaks_under_a_sink_ends_it_with_78(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    pipeline.worker()
    sink = pipeline.sink()
    asked = publish(settings, rows_for(100))
    wait_for_rows(settings, len(asked))
    assert sink.stop() == 0
    assert not settings.database.with_name(settings.database.name + "-wal").exists()
    sink = pipeline.sink()
    data = bytearray(settings.database.read_bytes())
    with settings.database.open("r+b") as file:
        file.seek(16384)
        file.write(b"\xff" * (len(data) - 16384))
    publish(settings, rows_for(3000))
    wait_until(lambda: sink.exit_code is not None, 30, "its end")
    assert sink.exit_code == 78, sink.output
    assert f"petalstream: {settings.database} is damaged" in sink.output.splitlines()[-1]


def test_a_sink_adds_the_rows_of_large_transactions_when_it_has_time(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    pipeline.worker()
    asked = publish(settings, rows_for(3000))
    sink = pipeline.sink()
    wait_for_rows(settings, len(asked))

    def is_complete() -> bool:
        with contextlib.closing(sqlite3.connect(settings.database)) as db:
            return bool(db.execute("SELECT count(*) = 3000 FROM result").fetchone()[0])

    wait_until(is_complete, 20, "the rows are in the view")
    assert sink.stop() == 0


def test_the_view_gets_rows_while_results_come_without_a_pause(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    pipeline.worker()
    pipeline.sink()
    ended = threading.Event()

    def publish_on() -> None:
        while not ended.is_set():
            publish(settings, rows_for(2000))

    publishers = [threading.Thread(target=publish_on) for _ in range(3)]
    for publisher in publishers:
        publisher.start()
    try:
        wait_until(lambda: count_in_view(settings.database) > 5000, 30, "rows in the view")
    finally:
        ended.set()
        for publisher in publishers:
            publisher.join()


def count_in_view(database: Path) -> int:
    """The number of rows in the view; 0 before there is a database."""
    if not database.exists():
        return 0
    with contextlib.closing(sqlite3.connect(database)) as db:
        return int(db.execute("SELECT count(*) FROM result").fetchone()[0])
