"""The tables, the view, and files that are not a projection."""

import sqlite3
from pathlib import Path

import msgspec
import pytest

from streams.errors import StoreError
from streams.events import Failure, Position, Result, Timings, new_id
from streams.projection.reader import Audit, Reader
from streams.projection.store import Applied, Store
from tests.streams.projection.records import apply, dump, records, result


def test_a_file_of_an_older_schema_is_refused(path: Path) -> None:
    Store(path, "cluster").close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=1")
    with pytest.raises(StoreError, match="older petalstream"):
        Store(path, "cluster")


@pytest.mark.parametrize("statement", ["CREATE TABLE t(x)", "PRAGMA user_version=99"])
def test_a_foreign_or_newer_file_is_refused_and_left_alone(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE other(x)")
        if "version" in statement:
            db.execute("PRAGMA application_id=0x5045544C")
        db.execute(statement)
    before = dump(path)
    with pytest.raises(StoreError, match=r"another program|newer"):
        Store(path, "cluster")
    assert dump(path) == before


def test_the_view_finds_a_task_by_its_index(path: Path) -> None:
    apply(Store(path, "cluster"), 0, 0, records(result(0)))
    with sqlite3.connect(path) as db:
        plan = db.execute("EXPLAIN QUERY PLAN SELECT * FROM result WHERE task_id = 'x'").fetchall()
    assert "SCAN result" not in str(plan)


def test_the_view_has_a_column_for_each_part_of_an_answer(path: Path) -> None:
    ok = msgspec.structs.replace(result(0), input="0123456789abcdef")
    failed = Result(
        v=1, id=new_id(), error=Failure("wrong_width", "got 5"), model="m@1", worker="h-1",
        task=Position(3, 9), ms=Timings(0.0, 0.0),
    )  # fmt: skip
    apply(Store(path, "cluster"), 3, 7, records(ok, failed, first=7))
    query = "SELECT * FROM result ORDER BY position"
    with sqlite3.connect(path) as db:
        db.row_factory = sqlite3.Row
        rows = [dict(row) for row in db.execute(query)]
    hidden = ("position",)
    at = {"log": 1, "partition": 3, "answered_at_ms": 1_763_920_000_123}
    assert [{k: v for k, v in row.items() if k not in hidden} for row in rows] == [
        {
            "task_id": ok.id, "status": "ok", "label": "setosa", "number": None,
            "row_count": 1, "y": '["setosa"]', "proba": "[[0.9,0.1]]",
            "error_code": None, "error_message": None, "input": "0123456789abcdef",
            "model": "iris@0123456789ab", "worker": "host-1", "task_partition": 0,
            "task_offset": 0, "queue_ms": 1.5, "infer_ms": 0.25, "offset": 7, **at,
        },
        {
            "task_id": failed.id, "status": "error", "label": None, "number": None,
            "row_count": None, "y": None, "proba": None,
            "error_code": "wrong_width", "error_message": "got 5", "input": None,
            "model": "m@1", "worker": "h-1", "task_partition": 3,
            "task_offset": 9, "queue_ms": 0.0, "infer_ms": 0.0, "offset": 8, **at,
        },
    ]  # fmt: skip


def test_an_offset_that_no_position_can_hold_is_refused(path: Path) -> None:
    store = Store(path, "cluster")
    last = 2**40 - 1
    assert apply(store, 1023, last, records(result(0), first=last)) == Applied(new=1)
    before = dump(path)
    for partition, offset in ((1024, 0), (1023, 2**40)):
        with pytest.raises(StoreError, match="move the database aside"):
            apply(store, partition, offset, records(result(0), first=offset))
    assert dump(path) == before
    with Reader(path) as reader:
        assert [row["offset"] for row in reader.between(1, 1023, 0, last)] == [last]


def test_a_block_that_is_deleted_by_hand_is_missed_by_the_audit(path: Path) -> None:
    apply(Store(path, "cluster"), 0, 0, records(result(0), result(1)))
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM result_block")
    with Reader(path) as reader:
        assert reader.audit() == Audit(0, 0, 0, 2)


def test_a_row_that_is_deleted_by_hand_is_missed_by_the_audit(path: Path) -> None:
    answer = result(0)
    apply(Store(path, "cluster"), 0, 0, records(answer, result(1)))
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM result_key WHERE task_id = ?", (answer.id,))
    with Reader(path) as reader:
        assert reader.get(answer.id) is None
        assert not reader.audit().consistent
