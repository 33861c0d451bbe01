"""Look-ups over HTTP, on a database without a broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.config import Settings
from streams.events import Failure, Position, Result, Timings, new_id
from streams.projection.store import Store
from tests.processes import free_port
from tests.service import call, in_thread
from tests.streams.projection.records import apply, records

ANSWERED, FAILED = new_id(), new_id()
AT = 1_763_920_000.123


@pytest.fixture(scope="module")
def url(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database = tmp_path_factory.mktemp("results") / "petal.sqlite"
    known = {"v": 1, "model": "iris@1", "worker": "vm-1", "ms": Timings(2.0, 0.5)}
    answered = Result(id=ANSWERED, y=["setosa"] * 30, task=Position(1, 7), **known)  # type: ignore[arg-type]
    failed = Result(id=FAILED, error=Failure("bad", "it is"), task=Position(1, 8), **known)  # type: ignore[arg-type]
    apply(Store(database, "cluster"), 1, 0, records(answered, failed, answered))
    settings = Settings(model=artifact, database=database, embedded_port=free_port())
    with in_thread(settings) as address:
        yield address


def test_the_latest_results_are_listed_in_short(url: str) -> None:
    found = call("GET", f"{url}/results/latest").json
    assert found["left"] == 0
    failed, answered = found["results"]
    shared = {"at": AT, "model": "iris@1", "worker": "vm-1", "queue_ms": 2.0, "infer_ms": 0.5}
    assert failed == {"id": FAILED, "task": {"partition": 1, "offset": 8}, "error": "bad", **shared}
    assert answered == {
        "id": ANSWERED,
        "task": {"partition": 1, "offset": 7},
        "labels": ["setosa"] * 20,
        "rows": 30,
        **shared,
    }
    searched = call("GET", f"{url}/results/latest?label=setosa").json
    assert searched == {"results": [answered], "left": 0}
    assert call("GET", f"{url}/results/latest?worker=vm-2").json == {"results": [], "left": 0}


def test_a_filter_that_is_none_is_named(url: str) -> None:
    reply = call("GET", f"{url}/results/latest?colour=red")
    assert reply.status == 400
    assert reply.json["error"].startswith("'colour' is not a parameter")


def test_a_story_has_the_places_and_times_and_why_the_task_is_missing(url: str) -> None:
    story = call("GET", f"{url}/tasks/{ANSWERED}/story").json
    assert story["result"]["y"] == ["setosa"] * 30
    assert (story["answer"], story["answered_at"]) == ({"partition": 1, "offset": 0}, AT)
    assert story["asked"] is None
    assert story["missing"] == "the broker does not answer, and only it has the task"
    assert story["repeats"] == [{"partition": 1, "offset": 2, "error": None}]
    unknown = call("GET", f"{url}/tasks/{new_id()}/story")
    assert unknown.status == 404
    assert call("GET", f"{url}/tasks/7/story").status == 400


def test_dead_letters_need_the_broker(url: str) -> None:
    reply = call("GET", f"{url}/dead-letters")
    assert reply.status == 503
    assert reply.json["error"] == "the broker does not answer, and only it has dead letters"
