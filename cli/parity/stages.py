"""The stages as `petal parity` asks them: each row's answer, or its error code."""

import asyncio
import csv
import io
import json
import re
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from cli.backends import Backend, QueueBackend, RequestRefused, RestBackend, TopicBackend
from cli.demo.processes import run_petal
from cli.input.model import Chosen
from cli.parity.cases import Case
from infra.config import Settings
from model import rows
from model.artifact import Loaded
from model.card import Card
from model.errors import InvalidRow, PredictError
from model.examples import as_typed
from streams.errors import ResultTimeout
from streams.projection.reader import Reader, to_result

ONE_SHOTS = 6  # rows that get a process of their own
IN_FLIGHT = 16
POLL_SECONDS = 0.1
ERROR = re.compile(r"petal: (?:line (?P<line>\d+): )?.*\((?P<code>[\w ]+)\)", re.DOTALL)


class Outcome(NamedTuple):
    """The answer to a row, with its probabilities or its score; or the code of its error."""

    label: Any = None
    numbers: Sequence[float] = ()
    code: str | None = None


Outcomes = Sequence[Outcome | None]  # None: the stage cannot express the row, or was not asked


class Services(NamedTuple):
    """The services to ask, and the model. `options` choose it for `petal`; `env` is of `petal`."""

    settings: Settings
    env: Mapping[str, str]
    chosen: Chosen
    options: Sequence[str]
    timeout: float

    @property
    def card(self) -> Card:
        """The card of the model."""
        return self.chosen.card


def notebook(loaded: Loaded, cases: Sequence[Case]) -> Outcomes:
    """The answers of scikit-learn's own `predict` and `predict_proba`, row by row."""
    return [_of_model(loaded, case.row) for case in cases]


def _of_model(loaded: Loaded, row: list[Any]) -> Outcome:
    import numpy as np

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
        method = "predict_proba" if card.proba else "decision_function" if card.score else None
        numbers = np.ravel(getattr(model, method)(table)).tolist() if method else ()
    except Exception:  # an estimator can raise anything
        return Outcome(code=PredictError.code)
    return Outcome(label, numbers)


def one_shot(services: Services, cases: Sequence[Case], first: Outcomes) -> Outcomes:
    """`petal predict` for a few of the rows: those with different codes first."""
    asked = set(_one_of_each(first)[:ONE_SHOTS])
    return [_predicted(services, case) if n in asked else None for n, case in enumerate(cases)]


def _one_of_each(outcomes: Outcomes) -> list[int]:
    """The numbers of the rows: first an answer and one of each code, then the others."""
    kinds = [None if outcome is None else outcome.code for outcome in outcomes]
    return sorted(range(len(kinds)), key=lambda n: kinds.index(kinds[n]) != n)


def _predicted(services: Services, case: Case) -> Outcome | None:
    done = _petal(services, "predict", "--json", "--", *map(as_typed, case.row))
    [outcome] = _read([1], done.stdout, done.stderr)
    return outcome


def prompt_loop(services: Services, cases: Sequence[Case]) -> Outcomes:
    """`petal ask` with all rows as CSV on its standard input."""
    lines, text = _csv(services.card, cases)
    done = _petal(services, "ask", "--json", "--delimiter", ",", "--decimal", ".", stdin=text)
    return _read(lines, done.stdout, done.stderr)


def _petal(
    services: Services, command: str, *args: str, stdin: str = ""
) -> "subprocess.CompletedProcess[str]":
    return run_petal(services.env, command, *services.options, *args, stdin=stdin)


def _csv(card: Card, cases: Sequence[Case]) -> tuple[list[int], str]:
    """CSV below a header, and the number of the line in which each row begins."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(card.names)
    lines = []
    for case in cases:
        lines.append(out.getvalue().count("\n") + 1)
        writer.writerow(map(as_typed, case.row))
    return lines, out.getvalue()


def _read(lines: Sequence[int], stdout: str, stderr: str) -> Outcomes:
    """The outcomes of rows that began in these lines, from what `petal` wrote."""
    errors = [found for line in stderr.splitlines() if (found := ERROR.fullmatch(line))]
    codes = {int(found["line"] or lines[0]): found["code"] for found in errors}
    answers = iter(stdout.splitlines())
    outcomes: list[Outcome | None] = []
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
    return Outcome(label, proba[0] if proba else document.get("score") or ())


async def rest(services: Services, cases: Sequence[Case]) -> Outcomes:
    """The Open Inference Protocol over HTTP, a request for each row."""
    card = services.card
    is_table = not card.numeric  # a tensor for each feature has no row that is too short

    async def ask(backend: Backend, case: Case) -> Outcome | None:
        if is_table and len(case.row) != len(card.features):
            return None
        return await _asked(backend, case, services.timeout)

    return await _all(RestBackend(services.settings, services.chosen), cases, ask)


async def queue(services: Services, cases: Sequence[Case]) -> Outcomes:
    """The task queue, a task for each row."""
    return await _all(
        QueueBackend(services.settings, services.chosen),
        cases,
        lambda backend, case: _asked(backend, case, services.timeout),
    )


async def _asked(backend: Backend, case: Case, timeout: float) -> Outcome:
    try:
        answer = await backend.ask(case.row, timeout)
    except (RequestRefused, InvalidRow) as e:
        return Outcome(code=e.code)
    return _of_document(answer.document)


async def topic(services: Services, cases: Sequence[Case]) -> Outcomes:
    """The message queue: tasks are published, and their rows read from the database."""
    settings, timeout = services.settings, services.timeout

    async def publish(backend: Backend, case: Case) -> str | Outcome:
        try:
            return str((await backend.ask(case.row, timeout)).label)
        except InvalidRow as e:  # the client has no JSON for it
            return Outcome(code=e.code)

    published = await _all(TopicBackend(settings, services.chosen), cases, publish)
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
    return _of_document(msgspec.to_builtins(result))


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


def outcomes(
    services: Services, loaded: Loaded, cases: Sequence[Case]
) -> Iterator[tuple[str, Outcomes]]:
    """Each stage with its outcomes, in the order of the stages."""
    first = notebook(loaded, cases)
    yield "0 notebook", first
    yield "1 one-shot", one_shot(services, cases, first)
    yield "2 prompt loop", prompt_loop(services, cases)
    yield "3 REST", asyncio.run(rest(services, cases))
    yield "4 message queue", asyncio.run(topic(services, cases))
    yield "5 task queue", asyncio.run(queue(services, cases))
