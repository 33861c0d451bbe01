"""`petal results` and `petal wait` in a shell, on a real database."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from streams.codec import encode
from streams.events import Failure, Position, Result, Timings
from streams.projection.store import Store
from streams.records import Chunk
from tests.processes import Pipeline

IDS = [f"0b5a2b9e-8f4f-4d3a-9b1e-6a4c0d6f2a1{n}" for n in range(3)]
UNKNOWN = "0b5a2b9e-8f4f-4d3a-9b1e-6a4c0d6f2aff"
OK = Result(
    v=1, id=IDS[0], y=["setosa"], proba=[[0.9, 0.1, 0.0]], model="iris@0123456789ab",
    worker="host-1", task=Position(2, 7), ms=Timings(1.5, 0.25),
)  # fmt: skip
TWO_ROWS = Result(
    v=1, id=IDS[1], y=["setosa", "virginica"], model="iris@0123456789ab",
    worker="host-2", task=Position(2, 8), ms=Timings(2.0, 0.5),
)  # fmt: skip
FAILED = Result(
    v=1, id=IDS[2], error=Failure("wrong_width", "row 0 has 5 values"), model="iris@0123456789ab",
    worker="host-1", task=Position(2, 9), ms=Timings(0.0, 0.0),
)  # fmt: skip


class Record(NamedTuple):
    offset: int
    timestamp: int
    value: bytes


def told(done: Any) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


def document(offset: int, result: Result) -> dict[str, Any]:
    """A stored result as its JSON."""
    return {
        **msgspec.to_builtins(result),
        "result": {"partition": 2, "offset": offset},
        "answered_at": f"2025-11-23T14:13:2{offset}.123+00:00",
    }


def line(offset: int, result: Result, label: str) -> str:
    return "\t".join((result.id, label, result.worker, document(offset, result)["answered_at"]))


@pytest.fixture
def stored(shell: Pipeline) -> Pipeline:
    """A database with an answer, one of two rows, and a failure, a second apart."""
    store = Store(Path(shell.env["PETAL_DATABASE"]), "cluster")
    start = 1_763_907_200_123
    results = enumerate((OK, TWO_ROWS, FAILED))
    records = [Record(n, start + 1000 * n, encode(r)) for n, r in results]
    store.apply(Chunk("results", 2, 0, records))
    store.close()
    return shell


def test_the_list_has_the_newest_answer_first(stored: Pipeline) -> None:
    lines = [
        line(2, FAILED, "error: wrong_width"),
        line(1, TWO_ROWS, "setosa, virginica"),
        line(0, OK, "setosa"),
    ]
    assert told(stored.run("results")) == (0, "\n".join(lines) + "\n", "")
    assert told(stored.run("results", "--limit", "1")) == (0, lines[0] + "\n", "")


def test_the_list_as_json_is_one_document_a_line(stored: Pipeline) -> None:
    done = stored.run("results", "--json")
    documents = [json.loads(text) for text in done.stdout.splitlines()]
    assert documents == [document(2, FAILED), document(1, TWO_ROWS), document(0, OK)]


def test_one_answer_is_shown_with_where_it_came_from(stored: Pipeline) -> None:
    shown = f"""\
task:          {OK.id}
answer:        setosa
probabilities: [[0.9, 0.1, 0.0]]
model:         iris@0123456789ab
worker:        host-1
asked at:      tasks, partition 2, offset 7
answered at:   results, partition 2, offset 0
time:          2025-11-23T14:13:20.123+00:00
waited:        1.5 ms, predicted in 0.25 ms
"""
    assert told(stored.run("results", OK.id)) == (0, shown, "")


def test_one_failure_is_shown_with_its_message(stored: Pipeline) -> None:
    shown = f"""\
task:          {FAILED.id}
answer:        error: wrong_width
message:       row 0 has 5 values
model:         iris@0123456789ab
worker:        host-1
asked at:      tasks, partition 2, offset 9
answered at:   results, partition 2, offset 2
time:          2025-11-23T14:13:22.123+00:00
waited:        0.0 ms, predicted in 0.0 ms
"""
    assert told(stored.run("results", FAILED.id)) == (0, shown, "")


@pytest.mark.parametrize(("offset", "result"), [(0, OK), (2, FAILED)])
def test_one_answer_as_json_is_its_document(stored: Pipeline, offset: int, result: Result) -> None:
    done = stored.run("results", "--json", result.id)
    assert (done.returncode, json.loads(done.stdout)) == (0, document(offset, result))


def test_an_id_without_an_answer_suggests_to_wait(stored: Pipeline) -> None:
    hint = (
        f"petal: no result for {UNKNOWN} yet; if it was published, wait for it: "
        f"petal wait {UNKNOWN}\n"
    )
    assert told(stored.run("results", UNKNOWN)) == (1, "", hint)


def test_without_a_database_the_line_says_what_makes_it(shell: Pipeline) -> None:
    path = shell.env["PETAL_DATABASE"]
    hint = f"petal: there is no database at {path}; the sink creates it (make up)\n"
    assert told(shell.run("results")) == (78, "", hint)
    assert not Path(path).exists()


def test_a_file_that_is_no_database_is_told_in_one_line(shell: Pipeline) -> None:
    path = Path(shell.env["PETAL_DATABASE"])
    path.write_text("not a database " * 100)
    hint = f"petal: {path} cannot be read: file is not a database\n"
    assert told(shell.run("results")) == (78, "", hint)


@pytest.mark.parametrize("verb", ["results", "wait"])
@pytest.mark.parametrize("text", ["7", OK.id.upper(), f"{OK.id}0", ""])
def test_what_can_be_no_task_id_is_a_usage_error(shell: Pipeline, verb: str, text: str) -> None:
    code, out, hint = told(shell.run(verb, text))
    assert (code, out) == (2, "")
    assert hint.splitlines()[-1].endswith(f"{text[:40]!r} is not a task id, a lower-case UUID4")


def test_a_stored_answer_needs_no_broker_to_wait_for(stored: Pipeline) -> None:
    assert told(stored.run("wait", OK.id)) == (0, "setosa\n", "")
    assert told(stored.run("wait", TWO_ROWS.id)) == (0, "setosa\nvirginica\n", "")


def test_a_stored_failure_is_told_and_the_exit_code_says_so(stored: Pipeline) -> None:
    hint = "petal: wrong_width: row 0 has 5 values\n"
    assert told(stored.run("wait", FAILED.id)) == (65, "", hint)


@pytest.mark.parametrize("result", [OK, TWO_ROWS, FAILED])
def test_wait_as_json_is_the_result_of_the_contract(stored: Pipeline, result: Result) -> None:
    done = stored.run("wait", "--json", result.id)
    assert msgspec.json.decode(done.stdout, type=Result) == result


def test_to_wait_for_what_is_not_stored_needs_the_broker(stored: Pipeline) -> None:
    code, out, hint = told(stored.run("wait", UNKNOWN))
    assert (code, out) == (69, "")
    address = f"127.0.0.1:{stored.env['PETAL_EMBEDDED_PORT']}"
    assert hint.splitlines()[-1].startswith(f"petal: no Kafka broker at {address} ")


def test_a_wait_in_vain_says_how_to_go_on(pipeline: Pipeline) -> None:
    hint = (
        f"petal: no result within 0.5 s for task {UNKNOWN}; "
        f"go on waiting with: petal wait {UNKNOWN}\n"
    )
    assert told(pipeline.run("wait", "--timeout", "0.5", UNKNOWN)) == (75, "", hint)
