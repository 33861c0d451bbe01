"""The cost of a task as backlogs, workers, rows per task and the model grow.

`python -m tests.benchmarks.scale --only sizes,workers,rows,heavy`, on Apache Kafka with
`--kafka`. In the first three parts warm processes process one backlog after the other. They
are paused while a backlog is published. CPU seconds are those of the process itself, from the
moment when it resumes until its last delivery is acknowledged. Rates are counted from the first
to the last result by their timestamps in the log. Every result is checked.

- `sizes`: one worker, then one sink, over backlogs of 10,000 to 1,000,000 tasks: CPU per
  million, rate, and the highest resident memory. Small backlogs are measured several times.
- `workers`: one and two workers over backlogs of the same size.
- `rows`: tasks of 1, 10 and 1,000 rows, with the same number of rows in all.
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
from tests.benchmarks import command_line, processes
from tests.benchmarks.backlog import Results, fill
from tests.benchmarks.figures import Sample, Tally, cpu_used, evenness, highest_mb, rate, tally
from tests.benchmarks.heavy import heavy
from tests.benchmarks.sink import StoredCount
from tests.processes import Process

PARTS = ("sizes", "workers", "rows", "heavy")
SIZES = (10_000, 100_000, 1_000_000)
ROWS = (1, 10, 1000)
MAX_RUNS = 5
MAX_TASKS_OF_A_SIZE = 300_000  # in all its runs, if it has more than one
WARM_UP_TASKS = 20_000
RUN_SECONDS = 1200.0
SAMPLE_SECONDS = 0.01
SETTLE_SECONDS = 0.1  # more than `figures.SETTLE_MS`


class BacklogRun(NamedTuple):
    """One backlog: the samples of each worker, and the results counted."""

    samples: list[list[Sample]]
    found: Tally

    @property
    def cpu(self) -> float:
        """CPU seconds of all workers."""
        return sum(cpu_used(one, max(self.found.stamps)) for one in self.samples)

    @property
    def rate(self) -> float:
        """Tasks per second."""
        return rate(self.found.stamps)


class WarmBenchmark:
    """Publishes backlogs to one broker for processes that stay warm."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.results = Results(settings)

    def run(
        self, workers: Sequence[Process], tasks: int, rows: int = 1, idle: Sequence[Process] = ()
    ) -> BacklogRun:
        """Let workers process one backlog; `idle` processes are paused until they are done."""
        deadline = time.monotonic() + RUN_SECONDS
        with processes.paused(list(idle)):
            with processes.paused(list(workers)):
                fill(self.settings, tasks, rows)
                samples = [[processes.sample(worker)] for worker in workers]

            def take_samples() -> None:
                processes.check_running(list(workers), deadline)
                for worker, taken in zip(workers, samples, strict=True):
                    taken.append(processes.sample(worker))

            self.results.wait(tasks, take_samples, SAMPLE_SECONDS)
            time.sleep(SETTLE_SECONDS)
            take_samples()
        pairs = self.results.pairs(tasks, take_samples)
        return BacklogRun(samples, tally(pairs, tasks))


def run_count(size: int) -> int:
    """The number of runs for a size; small backlogs get more."""
    return max(1, min(MAX_RUNS, MAX_TASKS_OF_A_SIZE // size))


def sizes(artifact: Path, kafka: bool, of: Sequence[int]) -> dict[str, Any]:
    """One worker and one sink over growing backlogs."""
    with processes.pipeline(artifact, kafka, **processes.pause_settings(max(of))) as (p, settings):
        cluster = asyncio.run(admin.prepare(settings))
        benchmark = WarmBenchmark(settings)
        (worker,) = processes.start(p, settings, WORKER_GROUP)
        (sink,) = processes.start(p, settings, SINK_GROUP)
        found: dict[int, dict[str, Any]] = {}
        with StoredCount(settings.database, cluster) as stored:
            for size in (WARM_UP_TASKS, *of):
                runs, drains = [], []
                for _ in range(run_count(size)):
                    with processes.paused([sink]):
                        runs.append(benchmark.run([worker], size))
                        first = processes.sample(sink)
                    drains.append([first, *drain(stored, sink, benchmark.results.seen)])
                found[size] = size_figures(size, runs, drains)
                if size != WARM_UP_TASKS:
                    command_line.print_progress(kafka, f"{size:9,} tasks", found[size])
        benchmark.results.close()
        if WARM_UP_TASKS not in of:
            del found[WARM_UP_TASKS]
    cpu = {size: f["cpu_seconds_per_million"] for size, f in found.items()}
    even = evenness(cpu)
    return {str(size): {**f, "cpu_over_mean": even[size]} for size, f in found.items()}


def drain(stored: StoredCount, sink: Process, records: int) -> list[Sample]:
    """Wait until the sink has stored all records; returns its samples."""
    deadline = time.monotonic() + RUN_SECONDS
    samples = [processes.sample(sink)]
    while stored.read() < records:
        processes.check_running([sink], deadline)
        time.sleep(SAMPLE_SECONDS)
        samples.append(processes.sample(sink))
    return samples


def size_figures(
    size: int, runs: Sequence[BacklogRun], drains: Sequence[Sequence[Sample]]
) -> dict[str, Any]:
    """The figures of one size: medians over its runs, and the highest memory of all."""
    sink_cpu = [samples[-1].cpu - samples[0].cpu for samples in drains]
    return {
        "tasks_per_second": round(statistics.median(run.rate for run in runs)),
        "cpu_seconds_per_million": per_million(statistics.median(r.cpu for r in runs), size),
        "worker_mb": highest_mb(sample for run in runs for sample in run.samples[0]),
        "sink_cpu_seconds_per_million": per_million(statistics.median(sink_cpu), size),
        "sink_mb": highest_mb(sample for samples in drains for sample in samples),
    }


def per_million(seconds: float, count: int) -> float:
    """Seconds per million, from the seconds that `count` took."""
    return round(seconds / count * 1e6, 2)


def workers(artifact: Path, kafka: bool, tasks: int) -> dict[str, Any]:
    """One worker, then two; `ratio_two` is the rate of two over the rate of one."""
    found: dict[str, Any] = {}
    for count in (1, 2):
        with processes.pipeline(artifact, kafka, **processes.pause_settings(tasks)) as (
            p,
            settings,
        ):
            benchmark = WarmBenchmark(settings)
            running = processes.start(p, settings, WORKER_GROUP, count)
            benchmark.run(running, WARM_UP_TASKS)
            run = benchmark.run(running, tasks)
            benchmark.results.close()
        found[str(count)] = {
            "tasks_per_second": round(run.rate),
            "cpu_seconds_per_million": per_million(run.cpu, tasks),
            "shares": sorted(run.found.workers.values()),
        }
        command_line.print_progress(kafka, f"{count} workers", found[str(count)])
    rates = [found[count]["tasks_per_second"] for count in ("1", "2")]
    return {**found, "ratio_two": round(rates[1] / rates[0], 3)}


def rows(artifact: Path, kafka: bool, total: int) -> dict[str, Any]:
    """The same number of rows in tasks of 1, 10 and 1,000 rows."""
    found: dict[str, Any] = {}
    with processes.pipeline(artifact, kafka, **processes.pause_settings(total)) as (p, settings):
        benchmark = WarmBenchmark(settings)
        running = processes.start(p, settings, WORKER_GROUP)
        for each in ROWS:
            tasks = max(4, total // each)
            benchmark.run(running, max(4, tasks // 10), each)
            run = benchmark.run(running, tasks, each)
            found[str(each)] = {
                "tasks_per_second": round(run.rate),
                "rows_per_second": round(run.rate * each),
                "cpu_seconds_per_million_rows": per_million(run.cpu, run.found.rows),
            }
            command_line.print_progress(kafka, f"{each:5,} rows per task", found[str(each)])
        benchmark.results.close()
    return found


def measure(artifact: Path, kafka: bool, args: argparse.Namespace) -> dict[str, Any]:
    """The chosen parts; prints a line for each step and returns the figures."""
    runs = {
        "sizes": lambda: sizes(artifact, kafka, [n for n in SIZES if n <= args.most]),
        "workers": lambda: workers(artifact, kafka, min(args.most, 200_000)),
        "rows": lambda: rows(artifact, kafka, min(args.most, 200_000)),
        "heavy": lambda: heavy(kafka, min(args.most, 200_000)),
    }
    head = {"broker": command_line.broker_name(kafka)}
    return {**head, **{part: runs[part]() for part in args.only}}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; `only` becomes the list of parts."""
    parser = command_line.make_parser("tests.benchmarks.scale", __doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"from: {','.join(PARTS)}")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="largest backlog in tasks")
    command_line.add_broker_options(parser)
    args = parser.parse_args(arguments)
    args.only = list(dict.fromkeys(filter(None, args.only.split(","))))
    if not args.only or set(args.only) - set(PARTS):
        parser.error(f"--only requires one or more of: {', '.join(PARTS)}")
    if args.most < SIZES[0]:
        parser.error(f"--most must be at least {SIZES[0]:,}")
    return args


def main() -> None:
    """Print a line per step and, last, the figures as one JSON object."""
    args = parse()
    with command_line.trained_iris() as artifact:
        figures = command_line.measure_on_brokers(
            args, lambda kafka: measure(artifact, kafka, args)
        )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
