"""The view `result` for people and their tools: types, completeness, speed."""

import random
import sqlite3
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.codec import encode
from streams.events import Failure, Label, Result
from streams.projection.reader import Reader
from streams.projection.store import Store
from tests.streams.projection.records import Record, apply, records, result

COUNT = 100_000
TYPES = {
    "task_id": "TEXT", "status": "TEXT", "label": "TEXT", "number": "REAL", "row_count": "INTEGER",
    "y": "TEXT", "proba": "TEXT", "error_code": "TEXT", "error_message": "TEXT", "input": "TEXT",
    "model": "TEXT", "worker": "TEXT", "task_partition": "INTEGER", "task_offset": "INTEGER",
    "queue_ms": "REAL", "infer_ms": "REAL", "log": "INTEGER", "partition": "INTEGER",
    "offset": "INTEGER", "answered_at_ms": "INTEGER", "position": "INTEGER",
}  # fmt: skip


def query(path: Path, sql: str) -> list[Any]:
    with sqlite3.connect(path) as db:
        return db.execute(sql).fetchall()


def with_answers(y: list[Label]) -> Result:
    return msgspec.structs.replace(result(0), y=y)


def test_every_column_has_a_type(path: Path) -> None:
    Store(path, "cluster").close()
    found = {name: kind for _, name, kind, *_ in query(path, "PRAGMA table_info(result)")}
    assert {name: found[name] for name in TYPES} == TYPES


@pytest.mark.parametrize(
    ("y", "label", "number", "count"),
    [
        (["setosa", "virginica"], "setosa", None, 2),
        ([3], "3", 3.0, 1),
        ([1.5, 2.5], "1.5", 1.5, 2),
        ([True], "true", None, 1),
        ([2**64 - 1], "18446744073709551615", 1.8446744073709552e19, 1),
    ],
)
def test_a_row_is_a_task_with_the_answer_to_its_first_row(
    path: Path, y: list[Label], label: str, number: float | None, count: int
) -> None:
    apply(Store(path, "cluster"), 0, 0, records(with_answers(y)))
    [row] = query(path, "SELECT label, number, row_count FROM result")
    assert row == (label, number, count)
    each = "SELECT answer.key, answer.value FROM result, json_each(y) AS answer"
    assert len(query(path, each)) == count


def test_rows_of_a_large_transaction_follow_and_all_others_are_there_at_once(path: Path) -> None:
    store = Store(path, "cluster")
    apply(store, 0, 0, records(result(0), result(1)))
    assert query(path, "SELECT count(*) FROM result") == [(2,)]
    many = records(*(result(n) for n in range(2, 3000)), first=2)
    apply(store, 0, 2, many)
    apply(store, 1, 7, records(result(7), first=7))
    apply(store, 0, 3000, records(result(3000), first=3000))
    assert query(path, "SELECT count(*) FROM result") == [(3,)]
    with Reader(path) as reader:
        assert len(list(reader.rows())) == 3002
    assert store.rows_left() == 2999
    while store.add_rows():
        pass
    apply(store, 0, 3001, records(result(3001), first=3001))
    store.close()
    same = "SELECT task_id, y, proba, model, position, queue_ms FROM {} ORDER BY 1"
    assert query(path, same.format("result")) == query(path, same.format("result_json"))


def test_a_repeated_answer_has_no_row(path: Path) -> None:
    first = result(0)
    apply(Store(path, "cluster"), 0, 0, records(first, first, result(2)))
    assert query(path, 'SELECT "offset" FROM result ORDER BY 1') == [(0,), (2,)]


def test_steps_end_at_blocks_and_leave_nothing_out(path: Path) -> None:
    store = Store(path, "cluster")
    for partition in (0, 1):
        apply(store, partition, 0, records(*(result(n) for n in range(700))))
    steps = 0
    while store.add_rows(3):
        steps += 1
    assert steps > 10
    assert query(path, "SELECT count(*), count(DISTINCT task_id) FROM result") == [(1400, 1400)]


def test_a_row_that_is_deleted_by_hand_is_not_in_the_view(path: Path) -> None:
    answer = result(0)
    apply(Store(path, "cluster"), 0, 0, records(answer, result(1)))
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM result_key WHERE task_id = ?", (answer.id,))
    assert query(path, "SELECT count(*) FROM result") == [(1,)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of many rows with a few labels, models and errors."""
    path = tmp_path_factory.mktemp("large") / "petal.sqlite"
    store = Store(path, "cluster")
    rng = random.Random(0)
    for first in range(0, COUNT, 10_000):
        chunk = [
            Record(n, encode(_answer(rng, n)), 1_763_920_000_000 + n)
            for n in range(first, first + 10_000)
        ]
        apply(store, 0, first, chunk)
    while store.add_rows():
        pass
    store.close()
    return path


def _answer(rng: random.Random, n: int) -> Result:
    answer = msgspec.structs.replace(
        result(n, str(uuid.UUID(int=rng.getrandbits(128), version=4))),
        y=[rng.choice(["setosa", "versicolor", "virginica"])],
        model=f"iris@{rng.choice(['0123456789ab', 'ba9876543210'])}",
    )
    if n % 100:
        return answer
    failure = Failure("wrong_width", "row 0 has 5 values")
    return msgspec.structs.replace(answer, y=None, proba=None, error=failure)


@pytest.mark.parametrize(
    ("sql", "milliseconds"),
    [
        ("SELECT count(*) FROM result", 100),
        ("SELECT * FROM result ORDER BY answered_at_ms DESC LIMIT 10", 10),
        ("SELECT * FROM result WHERE label = 'setosa' ORDER BY answered_at_ms DESC LIMIT 10", 10),
        ("SELECT * FROM result WHERE model = 'iris@ba9876543210' LIMIT 10", 10),
        ("SELECT * FROM result WHERE error_code = 'wrong_width' LIMIT 10", 10),
        ("SELECT * FROM result WHERE status = 'error' LIMIT 10", 10),
        ("SELECT * FROM result WHERE answered_at_ms > 1763920099990", 10),
        ("SELECT * FROM result WHERE task_id = (SELECT min(task_id) FROM result_key)", 10),
        ("SELECT label, count(*) FROM result GROUP BY label", 100),
        ("SELECT model, count(*) FROM result GROUP BY model", 100),
        ("SELECT error_code, count(*) FROM result GROUP BY error_code", 100),
        # As Datasette asks: a page, sorted by a column without an index, and a facet.
        ("SELECT * FROM result ORDER BY queue_ms DESC LIMIT 101", 100),
        ("SELECT * FROM result ORDER BY worker LIMIT 101", 100),
        (
            "SELECT label AS value, count(*) AS count FROM (SELECT * FROM result) "
            "WHERE label IS NOT NULL GROUP BY label ORDER BY count DESC, value LIMIT 31", 100,
        ),
    ],
)  # fmt: skip
def test_what_people_ask_is_answered_fast(large: Path, sql: str, milliseconds: float) -> None:
    taken = []
    with sqlite3.connect(large) as db:
        for _ in range(5):
            start = time.thread_time()
            assert db.execute(sql).fetchall()
            taken.append((time.thread_time() - start) * 1000)
    assert min(taken) < milliseconds
