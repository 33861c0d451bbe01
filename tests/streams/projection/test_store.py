"""The projection, on real SQLite files."""

import contextlib
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from streams.codec import encode, input_digest
from streams.errors import OffsetGap, StoreError
from streams.events import Failure, Position, Result, Timings, new_id
from streams.projection.blocks import read
from streams.projection.lock import WriterLock
from streams.projection.reader import Audit, Reader, to_result
from streams.projection.store import Applied, Store
from streams.records import Chunk


class Record(NamedTuple):
    offset: int
    value: bytes | None
    timestamp: int = 1_763_920_000_123


def result(offset: int, task_id: str | None = None, label: str = "setosa") -> Result:
    return Result(
        v=1, id=task_id or new_id(), y=[label], proba=[[0.9, 0.1]], model="iris@0123456789ab",
        worker="host-1", task=Position(0, offset), ms=Timings(1.5, 0.25),
    )  # fmt: skip


def records(*results: Result, first: int = 0) -> list[Record]:
    return [Record(first + n, encode(r)) for n, r in enumerate(results)]


def apply(store: Store, partition: int, first: int, records: Sequence[Record]) -> Applied:
    return store.apply(Chunk("results", partition, first, records))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "petal.sqlite"


def dump(path: Path) -> list[str]:
    with sqlite3.connect(path) as db:
        return list(db.iterdump())


def rows_of(path: Path) -> dict[str, list[Any]]:
    """The rows of all tables, but of the blocks of answers what the view makes of them."""
    tables = ("log", "projection_offset", "result_key", "duplicate", "unreadable", "result")
    with sqlite3.connect(path) as db:
        found = {table: db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
                 for table in tables}  # fmt: skip
    return {**found, "result": [row[:-1] for row in found["result"]]}  # without the block


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


def test_a_file_of_an_older_schema_is_refused(path: Path) -> None:
    Store(path, "cluster").close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=1")
    with pytest.raises(StoreError, match="older petalstream"):
        Store(path, "cluster")


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b'{"v":1}',
        b"\xff",
        encode(result(0)).replace(b'"y":["setosa"],', b""),
        encode(result(0)).replace(b'"partition":0', b'"partition":99999999999999999999'),
        encode(result(0)).replace(b'"id":"', b'"id":"x'),
        encode(result(0)).replace(b'"model"', b'"input":"0123","model"'),
        encode(result(0)).replace(b'"host-1"', rb'"\ud800"'),
        encode(result(0)).replace(b"host-1", b"host\x00"),
        encode(result(0)).replace(b"host-1", b"host-\xed\xa0\x80"),
        encode(result(0)).replace(b'["setosa"]', b"[{}]"),
        encode(result(0)).replace(b"0.9", b"NaN"),
        encode(result(0)).replace(b"0.9", b"1e999"),
        encode(result(0)) + b"," + encode(result(0)),
        encode(result(0)) + b"\n" + encode(result(0)),
    ],
)
def test_a_record_that_is_no_result_is_kept_as_unreadable(path: Path, value: bytes | None) -> None:
    store = Store(path, "cluster")
    before, good = result(0), result(2)
    chunk = [Record(0, encode(before)), Record(1, value), Record(2, encode(good))]
    assert apply(store, 0, 0, chunk) == Applied(new=2, unreadable=1)
    with Reader(path) as reader:
        assert reader.audit() == Audit(2, 0, 1, 3)
        assert [to_result(row) for row in reader.between(1, 0, 0, 2)] == [before, good]
        assert reader.other_offsets(1, 0, 0, 2) == {1}


def test_values_that_only_together_are_results_are_unreadable_each(path: Path) -> None:
    # Joined by commas these are three results: one of the first two values, two of the third.
    answers = [encode(result(n)) for n in range(3)]
    opened, rest = b'{"v":1,"x":[0', b"0]," + answers[0].removeprefix(b'{"v":1,')
    both = answers[1] + b"," + answers[2]
    assert len(msgspec.json.decode(b"[" + b",".join([opened, rest, both]) + b"]")) == 3
    chunk = [Record(n, value) for n, value in enumerate([opened, rest, both])]
    assert apply(Store(path, "cluster"), 0, 0, chunk) == Applied(unreadable=3)


def test_a_value_that_would_pass_for_two_between_two_that_pass_for_one_is_unreadable(
    path: Path,
) -> None:
    # Each begins as a result does, and joined they are as many results as values.
    answers = [encode(result(n)) for n in range(3)]
    opened = answers[0].removesuffix(b"}") + b',"x":[0'
    rest = answers[1].removesuffix(b"}") + b"}]}"
    chunk = [Record(n, v) for n, v in enumerate([opened, rest, answers[1] + b"," + answers[2]])]
    joined = msgspec.json.decode(b"[" + b",".join(r.value or b"" for r in chunk) + b"]")
    assert len(joined) == 3
    assert apply(Store(path, "cluster"), 0, 0, chunk) == Applied(unreadable=3)


@pytest.mark.parametrize(
    "answer",
    [
        msgspec.structs.replace(result(0), model="a\0b", worker="\u2028\x85 \N{FOUR LEAF CLOVER}"),
        msgspec.structs.replace(result(0), y=[2**63, -(2**63), 2**64 - 1, True, 0.1], proba=None),
        msgspec.structs.replace(result(0), y=["x" * 3_000_000] * 2),
        msgspec.structs.replace(result(0), proba=[[5e-324, 1.7976931348623157e308, -0.0]]),
        msgspec.structs.replace(result(0), task=Position(2**31 - 1, 2**63 - 1)),
    ],
    ids=["odd text", "large integers", "huge value", "odd floats", "far position"],
)
def test_an_odd_answer_is_read_back_whole(path: Path, answer: Result) -> None:
    store = Store(path, "cluster")
    assert apply(store, 0, 0, records(result(0), answer, result(2))) == Applied(new=3)
    with Reader(path) as reader:
        row = reader.get(answer.id)
    assert row is not None
    assert to_result(row) == answer
    assert (row["worker"], row["task_offset"]) == (answer.worker, answer.task.offset)


def test_an_answer_in_another_notation_is_the_same_answer(path: Path) -> None:
    answer = result(0)
    fields = {"y": ["no"], **msgspec.to_builtins(answer), "proba": [[9e-1, 1e-1]]}
    spread = msgspec.json.format(encode(fields), indent=2).replace(b'"y"', rb'"\u0079"')
    twice = b'{"y": ["no"],' + spread.strip()[1:]
    store = Store(path, "cluster")
    assert apply(store, 0, 0, [Record(0, twice), Record(1, encode(answer))]) == Applied(1, 1)
    with Reader(path) as reader:
        row = reader.get(answer.id)
    assert row is not None
    assert to_result(row) == answer
    assert (row["y"], row["proba"]) == ('["setosa"]', "[[0.9,0.1]]")


def test_a_field_that_is_unknown_or_there_twice_is_not_stored(path: Path) -> None:
    answers = [result(n) for n in range(3)]
    values = [encode(answer) for answer in answers]
    values[0] = values[0].replace(b'"y":', b'"y":["no"],"y":')
    values[1] = values[1].replace(b'"offset":', b'"more":[1],"offset":')
    values[2] = values[2].replace(b'"y":', b'"input":null,"y":')
    apply(Store(path, "cluster"), 0, 0, [Record(n, value) for n, value in enumerate(values)])
    with Reader(path) as reader:
        assert [row["value"] for row in reader.between(1, 0, 0, 2)] == [
            encode(answer).decode() for answer in answers
        ]


def test_blocks_end_where_the_time_changes_or_the_log_has_a_hole(path: Path) -> None:
    answers = [result(n) for n in range(90)]
    offsets = [*range(50), *range(51, 91)]
    chunk = [Record(o, encode(a), 1000 + o // 80) for o, a in zip(offsets, answers, strict=True)]
    store = Store(path, "cluster")
    apply(store, 0, 0, chunk)
    with Reader(path) as reader:
        rows = list(reader.following(1, 0, 0, 1000))
        assert [row["task_id"] for row in rows] == [answer.id for answer in answers]
        assert [row["offset"] for row in rows] == offsets
        assert [row["answered_at_ms"] for row in rows] == [1000 + o // 80 for o in offsets]
        assert [row["offset"] for row in reader.between(1, 0, 49, 52)] == [49, 51, 52]
        assert [row["offset"] for row in reader.following(1, 0, 45, 3)] == [45, 46, 47]
        latest = [row["offset"] for row in reader.latest(25)]
        assert latest == offsets[::-1][:25]
        assert reader.get(answers[60].id) == rows[60]


def test_the_view_finds_a_task_by_its_index(path: Path) -> None:
    apply(Store(path, "cluster"), 0, 0, records(result(0)))
    with sqlite3.connect(path) as db:
        plan = db.execute("EXPLAIN QUERY PLAN SELECT * FROM result WHERE task_id = 'x'").fetchall()
    assert "SCAN result" not in str(plan)


def test_a_block_that_is_deleted_by_hand_is_missed_by_the_audit(path: Path) -> None:
    apply(Store(path, "cluster"), 0, 0, records(result(0), result(1)))
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM result_block")
    with Reader(path) as reader:
        assert reader.audit() == Audit(0, 0, 0, 2)


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
    hidden = ("position", "value", "block")
    at = {"log": 1, "partition": 3, "answered_at_ms": 1_763_920_000_123}
    assert [{k: v for k, v in row.items() if k not in hidden} for row in rows] == [
        {
            "task_id": ok.id, "status": "ok", "y": '["setosa"]', "proba": "[[0.9,0.1]]",
            "error_code": None, "error_message": None, "input": "0123456789abcdef",
            "model": "iris@0123456789ab", "worker": "host-1", "task_partition": 0,
            "task_offset": 0, "queue_ms": 1.5, "infer_ms": 0.25, "offset": 7, **at,
        },
        {
            "task_id": failed.id, "status": "error", "y": None, "proba": None,
            "error_code": "wrong_width", "error_message": "got 5", "input": None,
            "model": "m@1", "worker": "h-1", "task_partition": 3,
            "task_offset": 9, "queue_ms": 0.0, "infer_ms": 0.0, "offset": 8, **at,
        },
    ]  # fmt: skip


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


def test_a_row_that_is_deleted_by_hand_is_missed_by_the_audit(path: Path) -> None:
    answer = result(0)
    apply(Store(path, "cluster"), 0, 0, records(answer, result(1)))
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM result_key WHERE task_id = ?", (answer.id,))
    with Reader(path) as reader:
        assert reader.get(answer.id) is None
        assert not reader.audit().consistent


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


def test_a_backfill_copies_what_the_log_lost_and_nothing_else(tmp_path: Path) -> None:
    old = Store(tmp_path / "old", "embedded-1")
    former = result(0)
    apply(old, 0, 0, records(former))
    old.close()
    old = Store(tmp_path / "old", "embedded-2")
    chunk = records(*(result(n) for n in range(6)))
    apply(old, 0, 0, chunk)
    old.close()
    new = Store(tmp_path / "new", "embedded-2")
    assert new.backfill(tmp_path / "old", starts={0: 4}) == 5
    assert new.next_offsets() == {0: 4}
    apply(new, 0, 4, chunk[4:])
    new.close()
    assert rows_of(tmp_path / "new") == rows_of(tmp_path / "old")


def test_a_duplicate_whose_original_is_reread_is_not_copied(tmp_path: Path) -> None:
    old, new = tmp_path / "old.sqlite", tmp_path / "new.sqlite"
    one = result(0)
    with contextlib.closing(Store(old, "cluster")) as store:
        apply(store, 1, 0, records(one))
        assert apply(store, 0, 0, records(one)).duplicates == 1
    with contextlib.closing(Store(new, "cluster")) as store:
        assert store.backfill(old, {0: 1, 1: 0}) == 0
        assert apply(store, 1, 0, records(one)).new == 1
    with Reader(new) as reader:
        assert reader.audit() == Audit(1, 0, 0, 1)


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


def test_a_reader_says_when_there_is_nothing_to_read(path: Path) -> None:
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


def test_a_reader_never_sees_a_database_that_is_made_in_part(tmp_path: Path) -> None:
    said: set[str] = set()
    paths = [tmp_path / f"{n}.sqlite" for n in range(20)]
    done = threading.Event()

    def read() -> None:
        for path in paths:
            while not done.is_set():
                try:
                    Reader(path).close()
                    break
                except StoreError as e:
                    said.add(str(e).replace(str(path), "PATH"))

    reading = threading.Thread(target=read)
    reading.start()
    try:
        for path in paths:
            Store(path, "cluster").close()
    finally:
        done.set()
        reading.join()
    assert said <= {
        "there is no database at PATH; the sink creates it (make up)",
        "PATH holds no results yet",
    }
