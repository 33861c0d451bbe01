"""`petal results` in a shell, on a real database."""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pexpect  # type: ignore[import-untyped]
import pytest

from streams.codec import encode
from streams.events import Failure, Result
from streams.projection.store import Store
from streams.records import Chunk
from tests.cli.conftest import FAILED, OK, TWO_ROWS, UNKNOWN, Record
from tests.processes import ROOT, Pipeline, clean_environ

MANY_ROWS = msgspec.structs.replace(OK, id=UNKNOWN, y=["setosa"] * 1000, proba=[[0.5, 0.5]] * 1000)
HOSTILE = "[red]a[/red] :cat: [/x]\x1b]0;t\x07\x9b1m\u202e\nb"
ESCAPED = "[red]a[/red] :cat: [/x]\\x1b]0;t\\x07\\x9b1m\\u202e\\nb"


def outcome(done: Any) -> tuple[int, str, str]:
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


def test_the_list_has_the_newest_result_first(stored: Pipeline) -> None:
    lines = [
        line(2, FAILED, "error: wrong_width"),
        line(1, TWO_ROWS, "setosa, virginica"),
        line(0, OK, "setosa"),
    ]
    assert outcome(stored.run("results")) == (0, "\n".join(lines) + "\n", "")
    assert outcome(stored.run("results", "--limit", "1")) == (0, lines[0] + "\n", "")


def test_the_list_as_json_is_one_document_a_line(stored: Pipeline) -> None:
    done = stored.run("results", "--json")
    documents = [json.loads(text) for text in done.stdout.splitlines()]
    assert documents == [document(2, FAILED), document(1, TWO_ROWS), document(0, OK)]


def test_one_result_is_shown_with_its_origin(stored: Pipeline) -> None:
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
    assert outcome(stored.run("results", OK.id)) == (0, shown, "")


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
    assert outcome(stored.run("results", FAILED.id)) == (0, shown, "")


@pytest.mark.parametrize(("offset", "result"), [(0, OK), (2, FAILED)])
def test_one_result_as_json_is_its_document(stored: Pipeline, offset: int, result: Result) -> None:
    done = stored.run("results", "--json", result.id)
    assert (done.returncode, json.loads(done.stdout)) == (0, document(offset, result))


def test_an_id_without_a_result_suggests_to_wait(stored: Pipeline) -> None:
    hint = (
        f"petal: no result for {UNKNOWN} yet; if it was published, wait for it: "
        f"petal wait {UNKNOWN}\n"
    )
    assert outcome(stored.run("results", UNKNOWN)) == (1, "", hint)


def test_without_a_database_the_line_says_what_creates_it(shell: Pipeline) -> None:
    path = shell.env["PETAL_DATABASE"]
    hint = f"petal: there is no database at {path}; the sink creates it (petal up)\n"
    assert outcome(shell.run("results")) == (78, "", hint)
    assert not Path(path).exists()


def test_a_file_that_is_not_a_database_is_reported_in_one_line(shell: Pipeline) -> None:
    path = Path(shell.env["PETAL_DATABASE"])
    path.write_text("not a database " * 100)
    hint = f"petal: {path} cannot be read: file is not a database\n"
    assert outcome(shell.run("results")) == (78, "", hint)


@pytest.mark.parametrize("verb", ["results", "wait"])
@pytest.mark.parametrize("text", ["7", OK.id.upper(), f"{OK.id}0", ""])
def test_a_text_that_is_not_a_task_id_is_a_usage_error(
    shell: Pipeline, verb: str, text: str
) -> None:
    code, out, hint = outcome(shell.run(verb, text))
    assert (code, out) == (2, "")
    assert hint.splitlines()[-1].endswith(f"{text[:40]!r} is not a task id, a lower-case UUID4")


def store(shell: Pipeline, *results: Result) -> None:
    database = Store(Path(shell.env["PETAL_DATABASE"]), "cluster")
    records = [Record(n, 1_763_907_200_123, encode(r)) for n, r in enumerate(results)]
    database.apply(Chunk("results", 2, 0, records))
    database.close()


def on_terminal(shell: Pipeline, columns: int, *command: str) -> str:
    """What `petal` writes to a terminal of so many columns."""
    env = {**clean_environ(), **shell.env, "TERM": "xterm", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
    written = pexpect.run(
        " ".join((sys.executable, "-m", "cli", *command)),
        cwd=ROOT, env=env, timeout=60, dimensions=(40, columns),
    )  # fmt: skip
    return str(written.decode())


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_a_terminal_shows_each_id_in_one_piece_and_the_first_labels_of_many(
    shell: Pipeline, columns: int
) -> None:
    store(shell, OK, MANY_ROWS)
    lines = on_terminal(shell, columns, "results").splitlines()
    assert [sum(r.id in line for line in lines) for r in (OK, MANY_ROWS)] == [1, 1]
    assert len(lines) < 15
    assert "(1,000 in all)" in " ".join(lines)


def test_a_task_of_many_rows_is_shortened_on_a_terminal_only(shell: Pipeline) -> None:
    store(shell, MANY_ROWS)
    for command in ("results", "wait"):
        lines = on_terminal(shell, 80, command, UNKNOWN).splitlines()
        assert len(lines) < 15
        assert sum("(1,000 in all)" in line for line in lines) >= 1
        assert shell.run(command, UNKNOWN).stdout.count("setosa") == 1000
    assert shell.run("results").stdout.count("setosa") == 1000


def test_labels_are_neither_markup_nor_control_characters(shell: Pipeline) -> None:
    store(shell, msgspec.structs.replace(OK, y=[HOSTILE], worker=HOSTILE, model=HOSTILE))
    for command in (("results",), ("results", OK.id), ("wait", OK.id)):
        assert ESCAPED in on_terminal(shell, 250, *command), command
        assert ESCAPED in shell.run(*command).stdout, command
        document = shell.run(*command, "--json").stdout
        assert (json.loads(document)["y"], "\x9b" in document) == ([HOSTILE], False), command


def test_the_message_of_an_error_has_no_control_characters(shell: Pipeline) -> None:
    failure = Failure("wrong_width", HOSTILE)
    store(shell, msgspec.structs.replace(FAILED, error=failure))
    assert ESCAPED in shell.run("results", FAILED.id).stdout
    line = f"petal: {ESCAPED} (wrong_width)\n"
    assert outcome(shell.run("wait", FAILED.id)) == (65, "", line)
