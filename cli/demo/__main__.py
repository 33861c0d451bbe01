"""`make demo`, or `python -m cli.demo`: every stage once, with real processes, and checked.

Starts broker, two workers, sink and API with honcho on free ports, sends one row through every
stage, sends 1,000 tasks from 4 concurrent clients, and compares the results with the model in this
process and with the rows in SQLite. Writes its figures to `var/demo.json`.
"""

import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cli import output
from cli.demo.processes import (
    WORKERS,
    ProcessFailed,
    environment,
    petal,
    start_pipeline,
    stop_pipeline,
    until_ready,
)
from infra import config
from infra.config import ROOT, Settings
from model import artifact
from model.errors import ArtifactError
from model.predict import matrix, predict
from streams.client import Client
from streams.errors import ClientError
from streams.events import Result
from streams.projection.reader import Reader

VALUES = ("6.0", "2.9", "4.5", "1.5")
ROW = [float(value) for value in VALUES]
TASKS, CLIENTS = 1000, 4
IN_FLIGHT = 8  # tasks that one client has in flight
DRAIN_SECONDS = 20.0


class CheckFailed(Exception):
    """A result of the demo is wrong."""


class RoundTrip(NamedTuple):
    """The row of a task, its result, and the milliseconds between the two."""

    row: list[float]
    result: Result
    ms: float


def wait_until(true: Callable[[], Any], seconds: float, what: str) -> None:
    """Poll until `true()`; raises CheckFailed after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise CheckFailed(f"{what} took longer than {seconds:g} s")
        time.sleep(0.1)


def stored(settings: Settings) -> dict[str, str]:
    """The label of every row in SQLite, by task id."""
    if not settings.database.exists():
        return {}
    with Reader(settings.database) as reader:
        return {row["task_id"]: json.loads(row["y"])[0] for row in reader.rows()}


def stages(env: dict[str, str], settings: Settings) -> dict[str, str]:
    """Send one row through the stages 1 to 5; returns the label of each."""
    line = " ".join(VALUES)
    labels = {
        "1 one-shot": petal(env, "predict", *VALUES),
        "2 prompt loop": _label(petal(env, "ask", stdin=line + "\n")),
        "3 REST": petal(env, "predict", "--via", "rest", *VALUES),
    }
    task_id = json.loads(petal(env, "ask", "--via", "topic", "--json", stdin=line + "\n"))["id"]
    wait_until(lambda: task_id in stored(settings), DRAIN_SECONDS, "the row of stage 4")
    labels["4 message queue"] = stored(settings)[task_id]
    labels["5 task queue"] = petal(env, "predict", "--via", "queue", *VALUES)
    return labels


def _label(line: str) -> str:
    return line.split()[0]


async def one_client(
    settings: Settings, rows: list[list[float]], answered: Callable[[], None]
) -> list[RoundTrip]:
    """Send `rows` from one client with its own connection, a few in flight."""
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def ask(client: Client, row: list[float]) -> RoundTrip:
        async with slots:
            start = time.perf_counter()
            result = await client.ask([row], timeout=30)
        answered()
        return RoundTrip(row, result, (time.perf_counter() - start) * 1000)

    async with Client(settings) as client:
        return list(await asyncio.gather(*(ask(client, row) for row in rows)))


async def many_clients(settings: Settings, console: Console) -> list[RoundTrip]:
    """Send 1,000 tasks from 4 concurrent clients, with a progress bar."""
    rows = [
        [4.3 + n % 36 / 10, 2 + n % 24 / 10, 1 + n % 59 / 10, n % 25 / 10] for n in range(TASKS)
    ]
    with Progress(console=console) as bar:
        line = bar.add_task(f"{TASKS:,} tasks from {CLIENTS} clients", total=TASKS)
        done = await asyncio.gather(
            *(
                one_client(settings, rows[n::CLIENTS], lambda: bar.advance(line))
                for n in range(CLIENTS)
            )
        )
    return [trip for part in done for trip in part]


def check(trips: list[RoundTrip], settings: Settings, others: int) -> None:
    """Compare results and rows with the model in this process; raises CheckFailed.

    `others` is the number of other tasks that were sent.
    """
    loaded = artifact.load(settings.model)
    labels = predict(loaded.model, matrix([t.row for t in trips], loaded.card.numeric)).y
    if [t.result.y for t in trips] != [[label] for label in labels]:
        raise CheckFailed("a result differs from the model in this process")
    expected = {t.result.id: label for t, label in zip(trips, labels, strict=True)}
    if len(expected) != TASKS:
        raise CheckFailed(f"{TASKS} tasks have {len(expected)} ids")
    total = TASKS + others
    wait_until(lambda: len(stored(settings)) >= total, DRAIN_SECONDS, "SQLite's rows")
    rows = stored(settings)
    if len(rows) != total or not expected.items() <= rows.items():
        raise CheckFailed(f"SQLite has {len(rows)} rows, not one for each of {total} tasks")
    workers = {t.result.worker for t in trips}
    if len(workers) != WORKERS:
        raise CheckFailed(f"results came from {len(workers)} of {WORKERS} workers")


def check_stages(labels: dict[str, str], settings: Settings) -> None:
    """Raise CheckFailed unless every stage returned the label of the model in this process."""
    loaded = artifact.load(settings.model)
    [direct] = predict(loaded.model, matrix([ROW], True)).y
    if set(labels.values()) != {direct}:
        raise CheckFailed(f"the stages disagree: {labels}, the model predicts {direct}")


def figures(trips: list[RoundTrip]) -> dict[str, Any]:
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


def show(console: Console, done: dict[str, Any], labels: dict[str, str]) -> None:
    """Print the label of each stage, and the tasks by worker and partition."""
    table = Table("stage", "answer", title=f"one row: {' '.join(VALUES)}")
    for stage, label in labels.items():
        table.add_row(stage, label)
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


def run(console: Console, folder: Path) -> dict[str, Any]:
    """Run all steps and return the figures; raises CheckFailed or ProcessFailed."""
    env = environment(folder)
    settings = config.load(env)
    log = folder / "honcho.log"
    start = time.monotonic()
    pipeline = start_pipeline(env, log)
    try:
        with console.status("starting broker, 2 workers, sink and API"):
            others = asyncio.run(until_ready(settings, pipeline, ROW))
        labels = stages(env, settings)
        others += 2  # the stages 4 and 5 send a task each
        trips = asyncio.run(many_clients(settings, console))
        check(trips, settings, others)
        check_stages(labels, settings)
    except BaseException:
        console.print(log.read_text(errors="replace")[-4000:])
        raise
    finally:
        stop_pipeline(pipeline)
    seconds = round(time.monotonic() - start, 1)
    done = {**figures(trips), "other_tasks": others, "stages": labels, "seconds": seconds}
    show(console, done, labels)
    return done


def main() -> int:
    """Run the demo and write `var/demo.json`; returns the exit code."""
    console = output.console()
    figures_file = ROOT / "var" / "demo.json"
    figures_file.parent.mkdir(exist_ok=True)
    figures_file.unlink(missing_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="petalstream-"))
    try:
        done = run(console, folder)
    except (CheckFailed, ProcessFailed, ClientError, ArtifactError) as e:
        print(f"demo: {e}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures_file.write_text(json.dumps(done, indent=2) + "\n")
    rows = done["tasks"] + done["other_tasks"]
    console.print(
        f"all {len(done['stages'])} stages agree; SQLite has exactly one row for each of "
        f"{rows:,} tasks, with the label that the model predicts in this process"
    )
    console.print("figures: var/demo.json    keep it running: make up", style="dim")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
