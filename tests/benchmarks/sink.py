"""The sink beside one worker at full speed, then the sink alone over the same results.

`python -m tests.benchmarks.sink --tasks 1000000`, on Apache Kafka with `--kafka`. Worker and
sink are ready, and paused until the whole backlog of tasks is published. From then on the lag
is sampled five times a second: the results that are in the log and not yet in SQLite. Then a
sink with an empty database stores the same results, with no worker beside it.

At the end the database must have one row per task, each record must be in exactly one table,
and every result in the log is checked. The embedded broker reports the end of a partition too
low by up to one batch, so the true lag may be higher by as much.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from infra.broker import admin
from infra.config import Settings
from infra.topics import SINK_GROUP, WORKER_GROUP
from streams.errors import StoreError
from streams.projection.reader import Reader
from tests.benchmarks import command_line, processes
from tests.benchmarks.backlog import Results, fill
from tests.benchmarks.figures import BadResults, Sample, Tally, highest_mb, rate, slope, tally
from tests.processes import Pipeline, Process

SAMPLE_SECONDS = 0.2
RUN_SECONDS = 1200.0
MAX_POINTS = 20  # of the lag over time in the figures


class LagSample(NamedTuple):
    """At a time in milliseconds since the epoch: results in the log, and records in SQLite."""

    at_ms: float
    written: int
    stored: int

    @property
    def lag(self) -> int:
        return max(0, self.written - self.stored)


class StoredCount:
    """Counts the records that a sink has stored, from another process. A context manager."""

    def __init__(self, path: Path, cluster: str) -> None:
        self._path, self._cluster = path, cluster
        self._reader: Reader | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()

    def read(self) -> int:
        """The stored records of this log; 0 while there is no database yet."""
        try:
            self._reader = self._reader or Reader(self._path)
        except StoreError:
            return 0
        log = self._reader.log_id(self._cluster)
        return 0 if log is None else sum(self._reader.next_offsets(log).values())


def check_database(path: Path, tasks: int) -> None:
    """Raise BadResults unless a database has each task once, and nothing else."""
    with Reader(path) as reader:
        audit = reader.audit()
    if not audit.consistent or (audit.results, audit.records) != (tasks, tasks):
        raise BadResults(f"{tasks:,} tasks, but the audit of the database is {audit}")


def figures_beside(
    lags: Sequence[LagSample], found: Tally, samples: Sequence[Sample]
) -> dict[str, Any]:
    """The figures of the sink beside a worker.

    `lag_growth` is the slope of the lag while the worker wrote, over the worker's rate: 0 if
    the sink keeps up, 1 if it stores nothing; None if the worker was done too soon to tell.
    """
    first, last = min(found.stamps), max(found.stamps)
    during = [s for s in lags if first <= s.at_ms <= last]
    worker, tasks = rate(found.stamps), len(found.stamps)
    done = next(s.at_ms for s in lags if s.stored >= tasks)
    growth = slope([(s.at_ms / 1000, s.lag) for s in during])
    step = max(1, -(-len(lags) // MAX_POINTS))
    return {
        "worker_rows_per_second": round(worker),
        "sink_rows_per_second": round(tasks / max(done - first, 1) * 1000),
        "highest_lag": max(s.lag for s in lags),
        "lag_growth": None if growth is None else round(growth / worker, 3),
        "lag_seconds_and_records": [
            [round((s.at_ms - first) / 1000, 1), s.lag] for s in lags[::step]
        ],
        "done_seconds_after_last_result": round((done - last) / 1000, 2),
        "sink_mb": highest_mb(samples),
    }


def figures_alone(lags: Sequence[LagSample], samples: Sequence[Sample]) -> dict[str, Any]:
    """The figures of the sink alone, without its start: from its first visible transaction on.

    None if that transaction stored everything.
    """
    first = next(s for s in lags if s.stored)
    done = next(s for s in lags if s.stored == lags[-1].stored)
    seconds = (done.at_ms - first.at_ms) / 1000
    rows = done.stored - first.stored
    cpu = [sample.cpu for sample in samples if sample.at_ms >= first.at_ms]
    return {
        "rows_per_second": round(rows / seconds) if rows else None,
        "cpu_seconds_per_million": round((cpu[-1] - cpu[0]) / rows * 1e6, 2) if rows else None,
        "sink_mb": highest_mb(samples),
    }


class LagMonitor:
    """Samples the log, a database and its sink until all results are stored."""

    def __init__(self, settings: Settings, results: Results, cluster: str) -> None:
        self._settings, self._results, self._cluster = settings, results, cluster

    def until_stored(
        self, tasks: int, sink: Process, others: Sequence[Process], path: Path
    ) -> tuple[list[LagSample], list[Sample]]:
        """The samples; raises ProcessFailed if a process ends or the time is over."""
        deadline = time.monotonic() + RUN_SECONDS
        lags: list[LagSample] = []
        samples = [processes.sample(sink)]
        with StoredCount(path, self._cluster) as stored:
            while not lags or lags[-1].stored < tasks:
                processes.check_running([sink, *others], deadline)
                time.sleep(SAMPLE_SECONDS)
                written = self._results.end()
                lags.append(LagSample(time.time() * 1000, written, stored.read()))
                samples.append(processes.sample(sink))
        return lags, samples


def beside(
    p: Pipeline, settings: Settings, monitor: LagMonitor, results: Results, tasks: int
) -> dict[str, Any]:
    """Measure the sink beside one worker at full speed; returns the figures."""
    (worker,) = processes.start(p, settings, WORKER_GROUP)
    (sink,) = processes.start(p, settings, SINK_GROUP)
    with processes.paused([worker, sink]):
        fill(settings, tasks)
    lags, samples = monitor.until_stored(tasks, sink, [worker], settings.database)
    for process in (worker, sink):
        process.stop()
    check_database(settings.database, tasks)
    found = tally(results.pairs(tasks, lambda: None), tasks)
    return figures_beside(lags, found, samples)


def alone(p: Pipeline, settings: Settings, monitor: LagMonitor, tasks: int) -> dict[str, Any]:
    """Measure a new sink over the same results; returns the figures."""
    path = settings.database.with_name("alone.sqlite")
    p.env["PETAL_DATABASE"] = str(path)
    sink = p.start(*processes.command(SINK_GROUP))
    lags, samples = monitor.until_stored(tasks, sink, [], path)
    sink.stop()
    check_database(path, tasks)
    return figures_alone(lags, samples)


def measure(artifact: Path, kafka: bool, tasks: int) -> dict[str, Any]:
    """Measure both on one new broker; prints a line for each and returns the figures."""
    name = command_line.broker_name(kafka)
    found: dict[str, Any] = {"broker": name, "tasks": tasks}
    with processes.pipeline(artifact, kafka, **processes.pause_settings(tasks)) as (p, settings):
        cluster = asyncio.run(admin.prepare(settings))
        results = Results(settings)
        monitor = LagMonitor(settings, results, cluster)
        found["beside"] = beside(p, settings, monitor, results, tasks)
        print(f"{name}  {tasks:,} tasks  {found['beside']}", flush=True)
        found["alone"] = alone(p, settings, monitor, tasks)
        print(f"{name}  {tasks:,} tasks  sink alone: {found['alone']}", flush=True)
        results.close()
    return found


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.make_parser("tests.benchmarks.sink", __doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000, help="tasks in the backlog")
    command_line.add_broker_options(parser)
    return parser.parse_args(arguments)


def main() -> None:
    """Print a line per measurement and, last, the figures as one JSON object."""
    args = parse()
    with command_line.trained_iris() as artifact:
        figures = command_line.measure_on_brokers(
            args, lambda kafka: measure(artifact, kafka, args.tasks)
        )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
