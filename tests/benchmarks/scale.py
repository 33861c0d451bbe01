"""What a task costs as backlogs, workers, rows per task and the model grow.

`python -m tests.benchmarks.scale --only sizes,workers,rows,heavy`, on Apache Kafka with
`--kafka`. In the first three parts the same warm processes work on one backlog after the
other; they are held still while it is published. CPU seconds are those of the process itself,
from its release to the last result's acknowledgement; rates are counted from the first result
to the last by their timestamps in the log. Every result is checked.

- `sizes`: one worker, then one sink, over backlogs of 10,000 to 1,000,000 tasks: CPU per
  million, rate, and the highest resident memory. The small ones have several turns.
- `workers`: one and two workers over the same backlog.
- `rows`: tasks of 1, 10 and 1,000 rows, as many rows in all.
- `heavy`: a forest of 300 deep trees; see `heavy.py`.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from infra.broker import admin
from infra.config import Settings
from infra.topics import SINK_GROUP, WORKER_GROUP
from tests.benchmarks import rig
from tests.benchmarks.backlog import Results, fill
from tests.benchmarks.costs import Look, Tally, cpu_used, evenness, highest_mb, rate, tally
from tests.benchmarks.heavy import heavy
from tests.benchmarks.sink import Database
from tests.processes import Process

PARTS = ("sizes", "workers", "rows", "heavy")
SIZES = (10_000, 100_000, 1_000_000)
ROWS = (1, 10, 1000)
MOST_TURNS, TURNS_TASKS = 5, 300_000  # of a small size, and what its turns may sum up to
WARM_UP_TASKS = 20_000
RUN_SECONDS = 1200.0
LOOK_SECONDS = 0.01
SETTLE_SECONDS = 0.1  # more than `costs.SETTLE_MS`


class Run(NamedTuple):
    """What one backlog took: each worker's looks, and what its results say."""

    looks: list[list[Look]]
    found: Tally

    @property
    def cpu(self) -> float:
        """CPU seconds of all workers."""
        return sum(cpu_used(looks, max(self.found.stamps)) for looks in self.looks)

    @property
    def rate(self) -> float:
        """Tasks per second."""
        return rate(self.found.stamps)


class Bench:
    """Backlogs for processes that stay warm, on one broker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.results = Results(settings)

    def run(
        self, workers: Sequence[Process], tasks: int, rows: int = 1, idle: Sequence[Process] = ()
    ) -> Run:
        """Let workers through one backlog; `idle` processes are held until it is answered."""
        deadline = time.monotonic() + RUN_SECONDS
        with rig.held(list(idle)):
            with rig.held(list(workers)):
                fill(self.settings, tasks, rows)
                looks = [[rig.look(worker)] for worker in workers]

            def look() -> None:
                rig.check(list(workers), deadline)
                for worker, seen in zip(workers, looks, strict=True):
                    seen.append(rig.look(worker))

            self.results.wait(tasks, look, LOOK_SECONDS)
            time.sleep(SETTLE_SECONDS)
            look()
        pairs = self.results.pairs(tasks, look)
        return Run(looks, tally(pairs, tasks))


def turns(size: int) -> int:
    """How often a size is measured."""
    return max(1, min(MOST_TURNS, TURNS_TASKS // size))


def sizes(artifact: Path, kafka: bool, of: Sequence[int]) -> dict[str, Any]:
    """One worker and one sink over growing backlogs."""
    with rig.pipeline(artifact, kafka, **rig.holding(max(of))) as (p, settings):
        cluster = asyncio.run(admin.prepare(settings))
        bench = Bench(settings)
        (worker,) = rig.start(p, settings, WORKER_GROUP)
        (sink,) = rig.start(p, settings, SINK_GROUP)
        found: dict[int, dict[str, Any]] = {}
        with Database(settings.database, cluster) as database:
            for size in (WARM_UP_TASKS, *of):
                runs, drains = [], []
                for _ in range(turns(size)):
                    with rig.held([sink]):
                        runs.append(bench.run([worker], size))
                        first = rig.look(sink)
                    drains.append([first, *drain(database, sink, bench.results.seen)])
                found[size] = of_size(size, runs, drains)
                if size != WARM_UP_TASKS:
                    rig.say(kafka, f"{size:9,} tasks", found[size])
        bench.results.close()
        if WARM_UP_TASKS not in of:
            del found[WARM_UP_TASKS]
    cpu = {size: f["cpu_seconds_per_million"] for size, f in found.items()}
    even = evenness(cpu)
    return {str(size): {**f, "cpu_over_mean": even[size]} for size, f in found.items()}


def drain(database: Database, sink: Process, records: int) -> list[Look]:
    """Let the sink store all records; returns the looks at it."""
    deadline = time.monotonic() + RUN_SECONDS
    looks = [rig.look(sink)]
    while database.stored() < records:
        rig.check([sink], deadline)
        time.sleep(LOOK_SECONDS)
        looks.append(rig.look(sink))
    return looks


def of_size(size: int, runs: Sequence[Run], drains: Sequence[Sequence[Look]]) -> dict[str, Any]:
    """The figures of one size: medians over its turns, the highest memory of them."""
    sink_cpu = [looks[-1].cpu - looks[0].cpu for looks in drains]
    return {
        "tasks_per_second": round(statistics.median(run.rate for run in runs)),
        "cpu_seconds_per_million": per_million(statistics.median(r.cpu for r in runs), size),
        "worker_mb": highest_mb(look for run in runs for look in run.looks[0]),
        "sink_cpu_seconds_per_million": per_million(statistics.median(sink_cpu), size),
        "sink_mb": highest_mb(look for looks in drains for look in looks),
    }


def per_million(seconds: float, count: int) -> float:
    """Seconds per million of what took them."""
    return round(seconds / count * 1e6, 2)


def workers(artifact: Path, kafka: bool, tasks: int) -> dict[str, Any]:
    """One worker and two over the same backlog; `ratio_two` is the gain of the second."""
    found: dict[str, Any] = {}
    for count in (1, 2):
        with rig.pipeline(artifact, kafka, **rig.holding(tasks)) as (p, settings):
            bench = Bench(settings)
            running = rig.start(p, settings, WORKER_GROUP, count)
            bench.run(running, WARM_UP_TASKS)
            run = bench.run(running, tasks)
            bench.results.close()
        found[str(count)] = {
            "tasks_per_second": round(run.rate),
            "cpu_seconds_per_million": per_million(run.cpu, tasks),
            "shares": sorted(run.found.workers.values()),
        }
        rig.say(kafka, f"{count} workers", found[str(count)])
    rates = [found[count]["tasks_per_second"] for count in ("1", "2")]
    return {**found, "ratio_two": round(rates[1] / rates[0], 3)}


def rows(artifact: Path, kafka: bool, total: int) -> dict[str, Any]:
    """As many rows in tasks of different size."""
    found: dict[str, Any] = {}
    with rig.pipeline(artifact, kafka, **rig.holding(total)) as (p, settings):
        bench = Bench(settings)
        running = rig.start(p, settings, WORKER_GROUP)
        for each in ROWS:
            tasks = max(4, total // each)
            bench.run(running, max(4, tasks // 10), each)
            run = bench.run(running, tasks, each)
            found[str(each)] = {
                "tasks_per_second": round(run.rate),
                "rows_per_second": round(run.rate * each),
                "cpu_seconds_per_million_rows": per_million(run.cpu, run.found.rows),
            }
            rig.say(kafka, f"{each:5,} rows per task", found[str(each)])
        bench.results.close()
    return found


def measure(artifact: Path, kafka: bool, args: argparse.Namespace) -> dict[str, Any]:
    """The chosen parts; prints a line for each step and returns the figures."""
    runs = {
        "sizes": lambda: sizes(artifact, kafka, [n for n in SIZES if n <= args.most]),
        "workers": lambda: workers(artifact, kafka, min(args.most, 200_000)),
        "rows": lambda: rows(artifact, kafka, min(args.most, 200_000)),
        "heavy": lambda: heavy(kafka, min(args.most, 200_000)),
    }
    broker = "kafka" if kafka else "embedded"
    return {"broker": broker, **{part: runs[part]() for part in args.only}}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; `only` becomes the list of parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="largest backlog in tasks")
    rig.add_brokers(parser)
    args = parser.parse_args(arguments)
    args.only = list(dict.fromkeys(filter(None, args.only.split(","))))
    if not args.only or set(args.only) - set(PARTS):
        parser.error(f"--only wants some of {', '.join(PARTS)}")
    if args.most < SIZES[0]:
        parser.error(f"--most must be at least {SIZES[0]:,}")
    return args


def main() -> None:
    """Print a line per step and, last, the figures as one JSON object."""
    args = parse()
    with rig.iris() as artifact:
        figures = rig.on_brokers(args, lambda kafka: measure(artifact, kafka, args))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
