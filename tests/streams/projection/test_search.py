"""Results by label, error, model, worker and time."""

from pathlib import Path

import pytest

from streams.codec import encode
from streams.events import Failure, Position, Result, Timings, new_id
from streams.projection.reader import Reader
from streams.projection.search import Wanted
from streams.projection.store import Store
from tests.streams.projection.records import apply, records


def answer(n: int, **given: object) -> Result:
    known = {"y": ["setosa"], "model": "iris@1", "worker": "vm-1", **given}
    return Result(v=1, id=new_id(), task=Position(0, n), ms=Timings(1.0, 1.0), **known)  # type: ignore[arg-type]


@pytest.fixture
def stored(path: Path) -> tuple[Path, list[Result]]:
    failure = Failure("unknown_model", "no")
    results = [
        answer(0),
        answer(1, y=["virginica", "setosa"], worker="vm-2"),
        answer(2, y=None, error=failure),
        answer(3, model="iris2@7", y=[1.5]),
        answer(4, model="iris@2"),
    ]
    apply(Store(path, "cluster"), 0, 0, records(*results))
    assert len({encode(each) for each in results}) == 5
    return path, results


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), [4, 3, 2, 1, 0]),
        (Wanted(label="setosa"), [4, 0]),
        (Wanted(label="1.5"), [3]),
        (Wanted(outcome="error"), [2]),
        (Wanted(error="unknown_model"), [2]),
        (Wanted(error="' OR 1=1 --"), []),
        (Wanted(model="iris"), [4, 2, 1, 0]),
        (Wanted(model="iris@2"), [4]),
        (Wanted(worker="vm-2"), [1]),
        (Wanted(label="setosa", model="iris@1"), [0]),
        (Wanted(since=1_763_920_000.0), [4, 3, 2, 1, 0]),
        (Wanted(since=1_763_920_001.0), []),
        (Wanted(until=1_763_920_000.0), []),
    ],
)
def test_only_what_is_wanted_is_found_the_newest_first(
    stored: tuple[Path, list[Result]], wanted: Wanted, expected: list[int]
) -> None:
    path, results = stored
    with Reader(path) as reader:
        found = reader.search(wanted, 10)
    assert [row["task_id"] for row in found.rows] == [results[n].id for n in expected]
    assert found.left == 0


def test_the_limit_keeps_the_newest(stored: tuple[Path, list[Result]]) -> None:
    path, results = stored
    with Reader(path) as reader:
        rows = reader.search(Wanted(worker="vm-1"), 2).rows
    assert [row["task_id"] for row in rows] == [results[4].id, results[3].id]


def test_the_newest_answers_cost_a_number_of_blocks(path: Path) -> None:
    store = Store(path, "cluster")
    results = [answer(n) for n in range(200)]
    apply(store, 0, 0, records(*results))
    apply(store, 1, 0, records(answer(0)))
    with Reader(path) as reader:
        found = reader.newest_answers(2)
        every = reader.newest_answers(1000)
    assert 2 < len(found[0][1]) + len(found[1][1]) <= 64
    assert found[0][1][-1] == results[-1]
    assert found[0][0] == 1_763_920_000_123
    assert sum(len(block) for _, block in every) == 201
