"""The steps of the demo, from the start of the pipeline to the figures."""

import asyncio
import shlex
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cli import output
from cli.demo import stages
from cli.demo.checks import Question, questions
from cli.demo.errors import CheckFailed
from cli.demo.processes import WORKERS, environment, start_pipeline, stop_pipeline, until_ready
from infra import config
from infra.config import Settings
from model import artifact
from model.examples import as_typed
from streams.client import Client
from streams.events import Result

TASKS, CLIENTS = 1000, 4
IN_FLIGHT = 8  # tasks that one client has in flight
RESULT_SECONDS = 120.0
MAX_LOG_CHARACTERS = 4000


class RoundTrip(NamedTuple):
    """A question, its result, and the milliseconds between the two."""

    question: Question
    result: Result
    ms: float


def run(console: Console, model: Path) -> dict[str, Any]:
    """Run all steps and return the figures.

    Raises ArtifactError, CheckFailed, ProcessFailed, or an error of the client.
    """
    loaded = artifact.load(model)
    asked = questions(loaded, TASKS)
    folder = Path(tempfile.mkdtemp(prefix="petalstream-"))
    try:
        done = _run(console, environment(folder, model.absolute()), asked, folder / "honcho.log")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"model": loaded.card.id, **done}


def _run(
    console: Console, env: dict[str, str], asked: Sequence[Question], log: Path
) -> dict[str, Any]:
    settings = config.load(env)
    start = time.monotonic()
    pipeline = start_pipeline(env, log)
    try:
        with console.status(f"starting broker, {WORKERS} workers, sink and API"):
            others = asyncio.run(until_ready(settings, pipeline, asked[0].row))
        with console.status("asking one question through every stage"):
            documents = stages.answers(env, settings, asked[0])
        others += stages.OTHER_TASKS
        trips = asyncio.run(many_clients(settings, asked, console))
        check(trips, settings, others)
        stages.check(documents, asked[0])
    except Exception:
        _show_log(log)
        raise
    finally:
        stop_pipeline(pipeline)
    seconds = round(time.monotonic() - start, 1)
    labels = {stage: document["y"][0] for stage, document in documents.items()}
    done = {**figures(trips), "other_tasks": others, "stages": labels, "seconds": seconds}
    show(console, done, asked[0])
    return done


def _show_log(log: Path) -> None:
    for line in log.read_text(errors="replace")[-MAX_LOG_CHARACTERS:].splitlines():
        click.echo(output.plain(line), err=True)


async def one_client(
    settings: Settings, asked: Sequence[Question], answered: Callable[[], None]
) -> list[RoundTrip]:
    """Send the questions from one client with its own connection, a few in flight."""
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def ask(client: Client, question: Question) -> RoundTrip:
        async with slots:
            start = time.perf_counter()
            result = await client.ask([question.row], timeout=RESULT_SECONDS)
        answered()
        return RoundTrip(question, result, (time.perf_counter() - start) * 1000)

    async with Client(settings) as client:
        return list(await asyncio.gather(*(ask(client, question) for question in asked)))


async def many_clients(
    settings: Settings, asked: Sequence[Question], console: Console
) -> list[RoundTrip]:
    """Send all questions from 4 concurrent clients, with a progress bar."""
    with Progress(console=console) as bar:
        line = bar.add_task(f"{len(asked):,} tasks from {CLIENTS} clients", total=len(asked))
        done = await asyncio.gather(
            *(
                one_client(settings, asked[n::CLIENTS], lambda: bar.advance(line))
                for n in range(CLIENTS)
            )
        )
    return [trip for part in done for trip in part]


def check(trips: Sequence[RoundTrip], settings: Settings, others: int) -> None:
    """Compare results and rows with the model in this process; raises CheckFailed.

    `others` is the number of other tasks that were sent.
    """
    for question, result, _ in trips:
        if result.y is None or not question.is_answered_by(result.y, result.proba):
            given = result.y if result.error is None else result.error.message
            raise CheckFailed(
                f"to {question.row} the model answers {question.label!r}, not {given}"
            )
    if len({trip.result.id for trip in trips}) != len(trips):
        raise CheckFailed(f"some of {len(trips)} tasks have the same id")
    check_stored(trips, settings, len(trips) + others)
    workers = {trip.result.worker for trip in trips}
    if len(workers) != WORKERS:
        raise CheckFailed(f"results came from {len(workers)} of {WORKERS} workers")


def check_stored(trips: Sequence[RoundTrip], settings: Settings, total: int) -> None:
    """Raise CheckFailed unless SQLite gets `total` rows, and those of the results among them."""

    def complete() -> dict[str, Result] | None:
        found = stages.stored(settings)
        return found if len(found) >= total else None

    rows = stages.wait_until(complete, "SQLite's rows")
    expected = {trip.result.id: (trip.result.y, trip.result.proba) for trip in trips}
    found = {key: (row.y, row.proba) for key, row in rows.items() if key in expected}
    if len(rows) != total or found != expected:
        raise CheckFailed(f"SQLite has {len(rows)} rows, not the one answer of each of {total}")


def figures(trips: Sequence[RoundTrip]) -> dict[str, Any]:
    """Tasks by worker and partition, and percentiles of the round trip."""
    counts = Counter((t.result.worker, t.result.task.partition) for t in trips)
    percentiles = statistics.quantiles((t.ms for t in trips), n=100)
    return {
        "tasks": len(trips),
        "clients": CLIENTS,
        "answered": [
            {"worker": w, "partition": p, "tasks": n} for (w, p), n in sorted(counts.items())
        ],
        "round_trip_ms": {"p50": round(percentiles[49], 1), "p99": round(percentiles[98], 1)},
    }


def show(console: Console, done: dict[str, Any], question: Question) -> None:
    """Print the answer of each stage, and the tasks by worker and partition."""
    texts = [shlex.quote(as_typed(value)) for value in question.row]
    table = Table("stage", "answer", title=f"one row: {' '.join(output.shortened(texts))}")
    for stage, label in done["stages"].items():
        table.add_row(stage, output.plain(label))
    console.print(table)
    table = Table("worker", "partition", "tasks answered", title="tasks by worker")
    for row in done["answered"]:
        table.add_row(row["worker"], str(row["partition"]), f"{row['tasks']:,}")
    console.print(table)
    trip = done["round_trip_ms"]
    console.print(
        f"round trip, {CLIENTS} clients with {IN_FLIGHT} tasks in flight each: "
        f"p50 {trip['p50']} ms, p99 {trip['p99']} ms"
    )
