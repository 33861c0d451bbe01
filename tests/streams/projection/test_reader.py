"""Reading the projection beside its writer."""

import sqlite3
import threading
from pathlib import Path

import pytest

from streams.codec import encode
from streams.errors import StoreError
from streams.projection.reader import Reader
from streams.projection.store import Store
from tests.streams.projection.records import Record, apply, records, result


def test_a_reader_reports_that_there_is_nothing_to_read(path: Path) -> None:
    with pytest.raises(StoreError, match="no database"):
        Reader(path)
    path.write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(StoreError, match="cannot be read"):
        Reader(path)


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Reader(tmp_path)


def test_a_path_with_signs_of_a_url_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c%20.sqlite"
    store = Store(path, "cluster")
    apply(store, 0, 0, records(result(0)))
    with Reader(path) as reader:
        assert reader.audit().results == 1
    store.close()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_reader_reads_while_the_writer_writes(path: Path) -> None:
    store = Store(path, "cluster")
    apply(store, 0, 0, records(result(0)))
    with Reader(path) as reader:
        apply(store, 0, 1, records(result(1), first=1))
        assert reader.audit().results == 2
        with pytest.raises(sqlite3.OperationalError):
            reader._connection.execute("DELETE FROM result_key")


def test_the_latest_rows_come_first(path: Path) -> None:
    store = Store(path, "cluster")
    answers = [result(n) for n in range(3)]
    stamped = [Record(n, encode(r), timestamp=1000 + n) for n, r in enumerate(answers)]
    apply(store, 0, 0, stamped)
    with Reader(path) as reader:
        assert [row["task_id"] for row in reader.latest(2)] == [answers[2].id, answers[1].id]


def test_a_reader_never_sees_a_database_that_is_made_in_part(tmp_path: Path) -> None:
    reported: set[str] = set()
    paths = [tmp_path / f"{n}.sqlite" for n in range(20)]
    done = threading.Event()

    def read() -> None:
        for path in paths:
            while not done.is_set():
                try:
                    Reader(path).close()
                    break
                except StoreError as e:
                    reported.add(str(e).replace(str(path), "PATH"))

    reading = threading.Thread(target=read)
    reading.start()
    try:
        for path in paths:
            Store(path, "cluster").close()
    finally:
        done.set()
        reading.join()
    assert reported <= {
        "there is no database at PATH; the sink creates it (petal up)",
        "PATH holds no results yet",
    }
