"""The stages as `petal parity` asks them: each row's answer, or its error code."""

import asyncio
import csv
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cli.backends import Backend, QueueBackend, RequestRefused, RestBackend, TopicBackend
from cli.parity.cases import Case
from infra.config import Settings
from model import rows
from model.artifact import Loaded
from model.card import Card
from model.errors import InvalidRow, PredictError
from streams.errors import ResultTimeout
from streams.projection.reader import Reader, to_result

ONE_SHOTS = 6  # rows that get a process of their own
IN_FLIGHT = 16
PROCESS_SECONDS = 120.0
POLL_SECONDS = 0.1
ERROR = re.compile(r"petal: (?:line (?P<line>\d+): )?.*\((?P<code>[\w ]+)\)", re.DOTALL)


class Outcome(NamedTuple):
    """The answer to a row, or the code of its error."""

    label: Any = None
    proba: Sequence[float] | None = None
    code: str | None = None


Outcomes = list[Outcome | None]  # None: the stage cannot express the row, or was not asked
Environment = Mapping[str, str]


def notebook(loaded: Loaded, cases: Sequence[Case]) -> Outcomes:
    """The answers of scikit-learn's own `predict` and `predict_proba`, row by row."""
    return [_of_model(loaded, case.row) for case in cases]


def _of_model(loaded: Loaded, row: list[Any]) -> Outcome:
    from model.predict import matrix
    from model.table import table_for

    model, card = loaded
    try:
        rows.check(card, [row])
    except InvalidRow as e:
        return Outcome(code=e.code)
    table = table_for(model, card.features, card.columns)(matrix([row], card.numeric))
    try:
        [label] = model.predict(table).ravel().tolist()
        proba = model.predict_proba(table).ravel().tolist() if card.proba else None
    except Exception:  # an estimator can raise anything
        return Outcome(code=PredictError.code)
    return Outcome(label, proba)


def one_shot(env: Environment, cases: Sequence[Case], first: Outcomes) -> Outcomes:
    """`petal predict` for a few of the rows: those with different codes first."""
    asked = set(_one_of_each(first)[:ONE_SHOTS])
    return [_predicted(env, case) if n in asked else None for n, case in enumerate(cases)]


def _one_of_each(outcomes: Outcomes) -> list[int]:
    """The numbers of the rows: first one of each code and label, then the others."""
    kinds = [(o.code, str(o.label)) if o is not None else None for o in outcomes]
    return sorted(range(len(kinds)), key=lambda n: kinds.index(kinds[n]) != n)


def _predicted(env: Environment, case: Case) -> Outcome | None:
    done = petal(env, "predict", "--json", "--", *map(_typed, case.row))
    [outcome] = _read([1], done.stdout, done.stderr)
    return outcome


def prompt_loop(env: Environment, card: Card, cases: Sequence[Case]) -> Outcomes:
    """`petal ask` with all rows as CSV on its standard input."""
    lines, text = _csv(card, cases)
    done = petal(env, "ask", "--json", "--delimiter", ",", "--decimal", ".", stdin=text)
    return _read(lines, done.stdout, done.stderr)


def petal(env: Environment, *args: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """Run `petal` as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "cli", *args],
        env=dict(env), input=stdin, capture_output=True, text=True, check=False,
        timeout=PROCESS_SECONDS,
    )  # fmt: skip


def _csv(card: Card, cases: Sequence[Case]) -> tuple[list[int], str]:
    """CSV below a header, and the number of the line in which each row begins."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(card.names)
    lines = []
    for case in cases:
        lines.append(out.getvalue().count("\n") + 1)
        writer.writerow(map(_typed, case.row))
    return lines, out.getvalue()


def _typed(value: Any) -> str:
    """A value as a person types it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def _read(lines: Sequence[int], stdout: str, stderr: str) -> Outcomes:
    """The outcomes of rows that began in these lines, from what `petal` wrote."""
    errors = [found for line in stderr.splitlines() if (found := ERROR.fullmatch(line))]
    codes = {int(found["line"] or lines[0]): found["code"] for found in errors}
    answers = iter(stdout.splitlines())
    outcomes: Outcomes = []
    for line in lines:
        if line in codes:
            outcomes.append(Outcome(code=codes[line]))
        else:
            answer = next(answers, None)
            outcomes.append(None if answer is None else _of_document(json.loads(answer)))
    return outcomes


def _of_document(document: Mapping[str, Any]) -> Outcome:
    [label] = document["y"]
    proba = document.get("proba")
    return Outcome(label, proba and proba[0])


async def rest(settings: Settings, card: Card, cases: Sequence[Case], timeout: float) -> Outcomes:
    """The Open Inference Protocol over HTTP, a request for each row."""
    is_table = not card.numeric  # a tensor for each feature has no row that is too short

    async def ask(backend: Backend, case: Case) -> Outcome | None:
        if is_table and len(case.row) != len(card.features):
            return None
        return await _asked(backend, case, timeout)

    return await _all(RestBackend(settings, card), cases, ask)


async def queue(settings: Settings, card: Card, cases: Sequence[Case], timeout: float) -> Outcomes:
    """The task queue, a task for each row."""
    return await _all(
        QueueBackend(settings, card), cases, lambda backend, case: _asked(backend, case, timeout)
    )


async def _asked(backend: Backend, case: Case, timeout: float) -> Outcome:
    try:
        answer = await backend.ask(case.row, timeout)
    except (RequestRefused, InvalidRow) as e:
        return Outcome(code=e.code)
    return _of_document(answer.document)


async def topic(settings: Settings, card: Card, cases: Sequence[Case], timeout: float) -> Outcomes:
    """The message queue: tasks are published, and their rows read from the database."""

    async def publish(backend: Backend, case: Case) -> str | Outcome:
        try:
            return str((await backend.ask(case.row, timeout)).label)
        except InvalidRow as e:  # the client has no JSON for it
            return Outcome(code=e.code)

    published = await _all(TopicBackend(settings, card), cases, publish)
    ids = [task_id for task_id in published if isinstance(task_id, str)]
    deadline = time.monotonic() + timeout
    while len(found := await asyncio.to_thread(_stored, settings, ids)) < len(ids):
        if time.monotonic() > deadline:
            raise ResultTimeout(next(i for i in ids if i not in found), timeout)
        await asyncio.sleep(POLL_SECONDS)
    return [found[p] if isinstance(p, str) else p for p in published]


def _stored(settings: Settings, ids: Sequence[str]) -> dict[str, Outcome]:
    """The outcomes of tasks that have a row in the database, by task id."""
    if not settings.database.exists():
        return {}
    with Reader(settings.database) as reader:
        found = {task_id: row for task_id in ids if (row := reader.get(task_id)) is not None}
    return {task_id: _of_row(row) for task_id, row in found.items()}


def _of_row(row: Mapping[str, Any]) -> Outcome:
    result = to_result(row)
    if result.error is not None:
        return Outcome(code=result.error.code)
    return Outcome((result.y or [None])[0], result.proba and result.proba[0])


async def _all(
    backend: Backend, cases: Sequence[Case], ask: Callable[[Backend, Case], Awaitable[Any]]
) -> list[Any]:
    """What `ask` returns for each case, a few at a time."""
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def one(case: Case) -> Any:
        async with slots:
            return await ask(backend, case)

    async with backend:
        return list(await asyncio.gather(*map(one, cases)))


def names() -> Iterator[str]:
    """The stages in their order."""
    yield from (
        "0 notebook", "1 one-shot", "2 prompt loop", "3 REST", "4 message queue", "5 task queue",
    )  # fmt: skip
