"""The projection, on real SQLite files."""

import contextlib
import sqlite3
from pathlib import Path

import msgspec
import pytest

from streams.codec import encode, input_digest
from streams.errors import OffsetGap
from streams.events import Failure, Position, Result, Timings, new_id
from streams.projection.blocks import read
from streams.projection.reader import Audit, Reader, to_result
from streams.projection.store import Applied, Store
from streams.records import Chunk
from tests.streams.projection.records import Record, apply, dump, records, result


def test_a_stored_result_is_read_back_whole(path: Path) -> None:
    answer = result(0)
    failed = Result(
        v=1, id=new_id(), error=Failure("wrong_width", "got 5"), model="m@1", worker="h-1",
        task=Position(3, 9), ms=Timings(0.0, 0.0),
    )  # fmt: skip
    store = Store(path, "cluster")
    assert apply(store, 0, 0, records(answer, failed)) == Applied(new=2)
    with Reader(path) as reader:
        rows = {row["task_id"]: row for row in reader.rows()}
        assert reader.get(answer.id) == rows[answer.id]
        assert reader.get(new_id()) is None
    assert {i: to_result(row) for i, row in rows.items()} == {answer.id: answer, failed.id: failed}
    assert rows[answer.id]["answered_at_ms"] == 1_763_920_000_123
    assert (rows[failed.id]["partition"], rows[failed.id]["offset"]) == (0, 1)


def test_replaying_what_is_stored_changes_nothing(path: Path) -> None:
    chunk = records(*(result(n) for n in range(5)))
    store = Store(path, "cluster")
    apply(store, 0, 0, chunk[:3])
    assert apply(store, 0, 1, chunk[1:]) == Applied(new=2, replayed=2)
    before = dump(path)
    assert apply(store, 0, 0, chunk) == Applied(replayed=5)
    assert dump(path) == before
    assert store.next_offsets() == {0: 5}


def test_slices_of_several_partitions_are_stored_together_or_not_at_all(path: Path) -> None:
    store = Store(path, "cluster")
    slices = [
        Chunk("results", 0, 0, records(result(0), result(1))),
        Chunk("results", 1, 5, records(result(5), first=5)),
        Chunk("results", 0, 2, records(result(2), first=2)),
    ]
    assert store.apply_all([read(s) for s in slices]) == Applied(new=4)
    assert store.next_offsets() == {0: 3, 1: 6}
    before = dump(path)
    with pytest.raises(OffsetGap):
        store.apply_all(
            [
                read(Chunk("results", 0, 3, records(result(3), first=3))),
                read(Chunk("results", 1, 9, [])),
            ]
        )
    assert dump(path) == before


def test_a_repeated_answer_is_recorded_and_the_first_one_stays(path: Path) -> None:
    task_id = new_id()
    first, same, other = (result(0, task_id), result(0, task_id), result(0, task_id, "virginica"))
    store = Store(path, "cluster")
    assert apply(store, 0, 0, records(first, same)) == Applied(new=1, duplicates=1)
    assert apply(store, 0, 2, records(other, first=2)) == Applied(duplicates=1)
    with Reader(path) as reader:
        row = reader.get(task_id)
        assert reader.audit() == Audit(results=1, duplicates=2, unreadable=0, records=3)
    assert row is not None
    assert to_result(row) == first
    with sqlite3.connect(path) as db:
        query = 'SELECT "offset", same_answer FROM duplicate ORDER BY 1'
        assert db.execute(query).fetchall() == [(1, 1), (2, 0)]


def test_an_answer_of_another_model_is_a_conflict_and_one_of_another_version_is_not(
    path: Path,
) -> None:
    first = result(0)
    newer = msgspec.structs.replace(first, model="iris@ba9876543210")
    other = msgspec.structs.replace(first, model="rent@0123456789ab")
    not_served = Failure("unknown_model", "this pipeline serves iris")
    unknown = msgspec.structs.replace(other, y=None, proba=None, error=not_served)
    store = Store(path, "cluster")
    applied = apply(store, 0, 0, records(first, newer, other, unknown))
    assert applied == Applied(new=1, duplicates=3, conflicts=1)


def test_an_answer_to_another_task_of_the_same_id_is_recorded_as_a_conflict(path: Path) -> None:
    task_id = new_id()
    first = msgspec.structs.replace(result(0, task_id), input=input_digest([[1.0]]))
    other = msgspec.structs.replace(first, input=input_digest([[2.0]]))
    store = Store(path, "cluster")
    applied = apply(store, 0, 0, records(first, other, first))
    assert applied == Applied(new=1, duplicates=2, conflicts=1)
    with Reader(path) as reader:
        row = reader.get(task_id)
        assert reader.audit() == Audit(1, 2, 0, 3, conflicts=1)
    assert row is not None
    assert to_result(row) == first
    with sqlite3.connect(path) as db:
        query = 'SELECT "offset", same_answer, error_code FROM duplicate ORDER BY 1'
        assert db.execute(query).fetchall() == [(1, 1, "id_conflict"), (2, 1, None)]


def test_repeated_answers_amid_a_large_transaction_are_found(path: Path) -> None:
    answers = [result(n) for n in range(300)]
    other = msgspec.structs.replace(answers[7], input=input_digest([[1.0]]))
    store = Store(path, "cluster")
    apply(store, 0, 0, records(*answers[:60]))
    slices = [
        Chunk("results", 0, 60, records(*answers[60:], answers[3], other, first=60)),
        Chunk("results", 1, 0, records(*answers[290:])),
    ]
    assert store.apply_all([read(s) for s in slices]) == Applied(
        new=240, duplicates=12, conflicts=1
    )
    with Reader(path) as reader:
        assert reader.audit() == Audit(300, 12, 0, 312, conflicts=1)
        stored = {row["task_id"]: to_result(row) for row in reader.rows()}
        assert reader.other_offsets(1, 0, 0, 400) == {300, 301}
        assert reader.other_offsets(1, 1, 0, 400) == set(range(10))
    assert stored == {answer.id: answer for answer in answers}


def test_a_chunk_that_begins_beyond_the_stored_offset_is_refused(path: Path) -> None:
    store = Store(path, "cluster")
    apply(store, 0, 0, records(result(0)))
    with pytest.raises(OffsetGap) as refused:
        apply(store, 0, 4, records(result(4), first=4))
    assert refused.value.next_offset == 1
    assert store.next_offsets() == {0: 1}


def test_holes_of_the_log_are_counted_and_the_audit_still_adds_up(path: Path) -> None:
    store = Store(path, "cluster")
    apply(store, 0, 10, records(result(10), first=10))
    # Read on from 11; the log has nothing before 15 and lacks 16.
    apply(store, 0, 11, [Record(15, encode(result(15))), Record(17, encode(result(17)))])
    with Reader(path) as reader:
        assert reader.audit() == Audit(results=3, duplicates=0, unreadable=0, records=3)
        assert reader.audit().consistent
    assert store.next_offsets() == {0: 18}


def test_a_new_log_begins_at_its_own_offsets_and_keeps_the_old_rows(path: Path) -> None:
    old, new = result(0), result(0)
    first = Store(path, "embedded-1")
    apply(first, 0, 0, records(old))
    first.close()
    second = Store(path, "embedded-2")
    assert second.next_offsets() == {}
    assert apply(second, 0, 0, records(new)) == Applied(new=1)
    second.close()
    with Reader(path) as reader:
        assert {row["task_id"] for row in reader.rows()} == {old.id, new.id}
        assert reader.audit() == Audit(2, 0, 0, 2)
    assert Store(path, "embedded-1").next_offsets() == {0: 1}


def test_a_failed_chunk_leaves_neither_rows_nor_offset(path: Path) -> None:
    store = Store(path, "cluster")
    apply(store, 0, 0, records(result(0)))
    before = dump(path)
    twice = [Record(1, encode(result(1))), Record(1, encode(result(1)))]
    with pytest.raises(sqlite3.IntegrityError):
        apply(store, 0, 1, twice)
    assert dump(path) == before
    assert apply(store, 0, 1, records(result(1), first=1)) == Applied(new=1)


@pytest.mark.parametrize("place", [0, 33, 69])
def test_a_record_that_sqlite_does_not_take_costs_only_itself(path: Path, place: int) -> None:
    answers = [result(n) for n in range(70)]
    store = Store(path, "cluster")
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON result_block "
            f"WHEN instr(NEW.answers, '{answers[place].id}') BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    parts = [
        Chunk("results", 0, 0, records(*answers)),
        Chunk("results", 1, 5, records(result(5), first=5)),
    ]
    applied = store.apply_all([read(part) for part in parts])
    assert applied == Applied(new=70, unreadable=1)
    assert store.next_offsets() == {0: 70, 1: 6}
    with Reader(path) as reader:
        found = {row["task_id"] for row in reader.rows()}
        assert found >= {a.id for n, a in enumerate(answers) if n != place}
        assert answers[place].id not in found
        assert reader.audit().consistent
    with sqlite3.connect(path) as db:
        [(offset, reason, value)] = db.execute('SELECT "offset", reason, value FROM unreadable')
    assert (offset, reason, value) == (
        place, "not stored: IntegrityError", encode(answers[place])
    )  # fmt: skip
    assert store.apply_all([read(part) for part in parts]) == Applied(replayed=71)


def test_offsets_that_were_deleted_before_they_were_read_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "petal.sqlite"
    with contextlib.closing(Store(path, "cluster")) as store:
        apply(store, 0, 0, records(result(0)))
        late = records(result(9), first=9)
        chunk = Chunk("results", 0, 1, late, unread_until=7)
        assert store.apply(chunk) == Applied(new=1, unread=6)
        assert store.apply(chunk) == Applied(replayed=1)
        assert (store.deleted_unread(), store.next_offsets()) == (6, {0: 10})
    with Reader(path) as reader:
        assert reader.deleted_unread() == [(1, 0, 1, 7)]
        assert reader.audit() == Audit(2, 0, 0, 2)
