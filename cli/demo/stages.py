"""One question through the stages 1 to 5."""

import csv
import io
import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from cli.demo.checks import Question
from cli.demo.errors import CheckFailed
from cli.demo.processes import petal
from infra.config import Settings
from model.examples import as_typed
from streams.events import Result
from streams.projection.reader import Reader, to_result

DRAIN_SECONDS = 60.0
OTHER_TASKS = 2  # the stages 4 and 5 send a task each
ASK = ("ask", "--json", "--delimiter", ",", "--decimal", ".")

T = TypeVar("T")


def answers(env: dict[str, str], settings: Settings, question: Question) -> dict[str, Any]:
    """The answer of each stage to one question: a document with `y` and, if there is, `proba`."""
    texts = [as_typed(value) for value in question.row]
    line = io.StringIO()
    csv.writer(line).writerow(texts)

    def predict(via: str) -> Any:
        return json.loads(petal(env, "predict", "--json", "--via", via, "--", *texts))

    def ask(*more: str) -> Any:
        return json.loads(petal(env, *ASK, *more, stdin=line.getvalue()))

    return {
        "1 one-shot": predict("local"),
        "2 prompt loop": ask(),
        "3 REST": predict("rest"),
        "4 message queue": _stored_by_sink(settings, ask("--via", "topic")["id"]),
        "5 task queue": predict("queue"),
    }


def _stored_by_sink(settings: Settings, task_id: str) -> Any:
    row = wait_until(lambda: stored(settings).get(task_id), "the row of stage 4")
    return msgspec.to_builtins(row)


def stored(settings: Settings) -> dict[str, Result]:
    """The result in every row of SQLite, by task id."""
    if not settings.database.exists():
        return {}
    with Reader(settings.database) as reader:
        return {row["task_id"]: to_result(row) for row in reader.rows()}


def wait_until(get: Callable[[], T | None], what: str) -> T:
    """Poll until `get()` returns something; raises CheckFailed after DRAIN_SECONDS."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while not (found := get()):
        if time.monotonic() > deadline:
            raise CheckFailed(f"{what} took longer than {DRAIN_SECONDS:g} s")
        time.sleep(0.1)
    return found


def check(documents: dict[str, Any], question: Question) -> None:
    """Raise CheckFailed unless every stage gave the answer of the model in this process."""
    wrong = {
        stage: document.get("y", document.get("error"))
        for stage, document in documents.items()
        if not question.is_answered_by(document.get("y", []), document.get("proba"))
    }
    if wrong:
        raise CheckFailed(f"the model answers {question.label!r}, and these stages not: {wrong}")
