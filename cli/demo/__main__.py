"""`make demo`: the whole staircase once, for real, and checked.

Starts broker, two workers, sink and API with honcho on free ports, asks one question through
every stage, sends 1,000 tasks from 4 clients at once, and compares what came back with the
model in this process and with the rows in SQLite. Writes its figures to `var/demo.json`.
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

QUESTION = ("6.0", "2.9", "4.5", "1.5")
ROW = [float(value) for value in QUESTION]
TASKS, CLIENTS = 1000, 4
IN_FLIGHT = 8  # tasks that one client has in flight
DRAIN_SECONDS = 20.0


class CheckFailed(Exception):
    """Something that the demo promises does not hold."""


class Answer(NamedTuple):
    """One task's row, its result, and its round trip in milliseconds."""

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
    """Label by task id of every row in SQLite."""
    if not settings.database.exists():
        return {}
    with Reader(settings.database) as reader:
        return {row["task_id"]: json.loads(row["y"])[0] for row in reader.rows()}


def stages(env: dict[str, str], settings: Settings) -> dict[str, str]:
    """One question through the stages 1 to 5; returns each one's label."""
    line = " ".join(QUESTION)
    labels = {
        "1 one-shot": petal(env, "predict", *QUESTION),
        "2 prompt loop": _label(petal(env, "ask", stdin=line + "\n")),
        "3 REST": petal(env, "predict", "--via", "rest", *QUESTION),
    }
    task_id = json.loads(petal(env, "ask", "--via", "topic", "--json", stdin=line + "\n"))["id"]
    wait_until(lambda: task_id in stored(settings), DRAIN_SECONDS, "the row of stage 4")
    labels["4 message queue"] = stored(settings)[task_id]
    labels["5 task queue"] = petal(env, "predict", "--via", "queue", *QUESTION)
    return labels


def _label(line: str) -> str:
    return line.split()[0]


async def one_client(
    settings: Settings, rows: list[list[float]], answered: Callable[[], None]
) -> list[Answer]:
    """One client with its own connection; asks for `rows`, a few in flight."""
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def ask(client: Client, row: list[float]) -> Answer:
        async with slots:
            start = time.perf_counter()
            result = await client.ask([row], timeout=30)
        answered()
        return Answer(row, result, (time.perf_counter() - start) * 1000)

    async with Client(settings) as client:
        return list(await asyncio.gather(*(ask(client, row) for row in rows)))


async def many_clients(settings: Settings, console: Console) -> list[Answer]:
    """1,000 tasks from 4 clients at once, with a progress bar."""
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
    return [answer for part in done for answer in part]


def check(answers: list[Answer], settings: Settings, others: int) -> None:
    """Compare answers and rows with the model in this process; raises CheckFailed.

    `others`: how many tasks were asked beside these.
    """
    loaded = artifact.load(settings.model)
    asked = predict(loaded.model, matrix([a.row for a in answers], loaded.card.numeric)).y
    if [a.result.y for a in answers] != [[label] for label in asked]:
        raise CheckFailed("an answer differs from the model's in this process")
    expected = {a.result.id: label for a, label in zip(answers, asked, strict=True)}
    if len(expected) != TASKS:
        raise CheckFailed(f"{TASKS} tasks had {len(expected)} ids")
    total = TASKS + others
    wait_until(lambda: len(stored(settings)) >= total, DRAIN_SECONDS, "SQLite's rows")
    rows = stored(settings)
    if len(rows) != total or not expected.items() <= rows.items():
        raise CheckFailed(f"SQLite has {len(rows)} rows, not one for each of {total} tasks")
    workers = {a.result.worker for a in answers}
    if len(workers) != WORKERS:
        raise CheckFailed(f"{len(workers)} of {WORKERS} workers answered")


def check_stages(labels: dict[str, str], settings: Settings) -> None:
    """Raise CheckFailed unless every stage gave the label of the model in this process."""
    loaded = artifact.load(settings.model)
    [direct] = predict(loaded.model, matrix([ROW], True)).y
    if set(labels.values()) != {direct}:
        raise CheckFailed(f"the stages disagree: {labels}, the model says {direct}")


def figures(answers: list[Answer]) -> dict[str, Any]:
    """Tasks by worker and partition, and the round trip's percentiles."""
    counts = Counter((a.result.worker, a.result.task.partition) for a in answers)
    percentiles = statistics.quantiles((a.ms for a in answers), n=100)
    return {
        "tasks": len(answers),
        "clients": CLIENTS,
        "answered": [
            {"worker": w, "partition": p, "tasks": n} for (w, p), n in sorted(counts.items())
        ],
        "round_trip_ms": {"p50": round(percentiles[49], 1), "p99": round(percentiles[98], 1)},
    }


def show(console: Console, done: dict[str, Any], labels: dict[str, str]) -> None:
    """The tables: stage by label, worker by partition."""
    table = Table("stage", "answer", title=f"one question: {' '.join(QUESTION)}")
    for stage, label in labels.items():
        table.add_row(stage, label)
    console.print(table)
    table = Table("worker", "partition", "tasks answered", title="who answered")
    for row in done["answered"]:
        table.add_row(row["worker"], str(row["partition"]), f"{row['tasks']:,}")
    console.print(table)
    trip = done["round_trip_ms"]
    console.print(
        f"round trip, {CLIENTS} clients with {IN_FLIGHT} tasks in flight each: "
        f"p50 {trip['p50']} ms, p99 {trip['p99']} ms"
    )


def run(console: Console, folder: Path) -> dict[str, Any]:
    """The demo itself; raises CheckFailed or ProcessFailed."""
    env = environment(folder)
    settings = config.load(env)
    log = folder / "honcho.log"
    start = time.monotonic()
    pipeline = start_pipeline(env, log)
    try:
        with console.status("starting broker, 2 workers, sink and API"):
            others = asyncio.run(until_ready(settings, pipeline, ROW))
        labels = stages(env, settings)
        others += 2  # one task each of the stages 4 and 5
        answers = asyncio.run(many_clients(settings, console))
        check(answers, settings, others)
        check_stages(labels, settings)
    except BaseException:
        console.print(log.read_text(errors="replace")[-4000:], markup=False, highlight=False)
        raise
    finally:
        stop_pipeline(pipeline)
    seconds = round(time.monotonic() - start, 1)
    done = {**figures(answers), "other_tasks": others, "stages": labels, "seconds": seconds}
    show(console, done, labels)
    return done


def main() -> int:
    """Run the demo and write `var/demo.json`; returns the exit code."""
    console = Console()
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
        f"all {len(done['stages'])} stages agreed; SQLite has exactly one row for each of "
        f"{rows:,} tasks, each with the label that predict gives in process"
    )
    console.print("figures: var/demo.json    keep it running: make up", style="dim")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
