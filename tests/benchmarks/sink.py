"""The sink beside one worker at full speed, then the sink alone over the waiting results.

`python -m tests.benchmarks.sink --tasks 1000000`, on Apache Kafka with `--kafka`. A backlog of
tasks waits in the log; worker and sink are ready and held still until it is complete. From
then on the lag, results that are written and not yet in SQLite, is looked at five times a
second. Then a sink with an empty database reads the same results, with nothing beside it.

At the end the database must hold one row per task, every record must have ended in exactly one
table, and every result in the log is checked. The embedded broker says where a log ends only
up to its last batch, so the lag there may be a batch per partition more.
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
from tests.benchmarks import rig
from tests.benchmarks.backlog import Results, fill
from tests.benchmarks.costs import BadResults, Look, Tally, highest_mb, rate, slope, tally
from tests.processes import Pipeline, Process

LOOK_SECONDS = 0.2
RUN_SECONDS = 1200.0
SHOWN = 20  # points of the lag over time in the figures


class Moment(NamedTuple):
    """At a time in milliseconds since the epoch: results in the log, and records in SQLite."""

    at_ms: float
    written: int
    stored: int

    @property
    def lag(self) -> int:
        return max(0, self.written - self.stored)


class Database:
    """How far a sink's database is, seen from outside. A context manager."""

    def __init__(self, path: Path, cluster: str) -> None:
        self._path, self._cluster = path, cluster
        self._reader: Reader | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()

    def stored(self) -> int:
        """Records of this log that were applied; 0 while there is no database yet."""
        try:
            self._reader = self._reader or Reader(self._path)
        except StoreError:
            return 0
        log = self._reader.log_id(self._cluster)
        return 0 if log is None else sum(self._reader.next_offsets(log).values())


def check(path: Path, tasks: int) -> None:
    """Raise BadResults unless a database holds each task once, and nothing else."""
    with Reader(path) as reader:
        audit = reader.audit()
    if not audit.consistent or (audit.results, audit.records) != (tasks, tasks):
        raise BadResults(f"{tasks:,} tasks, but the database says {audit}")


def figures_beside(
    moments: Sequence[Moment], found: Tally, looks: Sequence[Look]
) -> dict[str, Any]:
    """The figures of the run with the worker beside.

    `lag_growth` is the slope of the lag while the worker wrote, over the worker's rate: 0 if
    the sink keeps up, 1 if it does nothing; None where that was too short to tell.
    """
    first, last = min(found.stamps), max(found.stamps)
    during = [m for m in moments if first <= m.at_ms <= last]
    worker, tasks = rate(found.stamps), len(found.stamps)
    done = next(m.at_ms for m in moments if m.stored >= tasks)
    growth = slope([(m.at_ms / 1000, m.lag) for m in during])
    step = max(1, -(-len(moments) // SHOWN))
    return {
        "worker_rows_per_second": round(worker),
        "sink_rows_per_second": round(tasks / max(done - first, 1) * 1000),
        "highest_lag": max(m.lag for m in moments),
        "lag_growth": None if growth is None else round(growth / worker, 3),
        "lag_seconds_and_records": [
            [round((m.at_ms - first) / 1000, 1), m.lag] for m in moments[::step]
        ],
        "done_seconds_after_last_result": round((done - last) / 1000, 2),
        "sink_mb": highest_mb(looks),
    }


def figures_alone(moments: Sequence[Moment], looks: Sequence[Look]) -> dict[str, Any]:
    """The figures of the sink alone; counted from its first transaction seen, so without its
    start. None where nothing came after that."""
    first = next(m for m in moments if m.stored)
    done = next(m for m in moments if m.stored == moments[-1].stored)
    seconds = (done.at_ms - first.at_ms) / 1000
    rows = done.stored - first.stored
    cpu = [look.cpu for look in looks if look.at_ms >= first.at_ms]
    return {
        "rows_per_second": round(rows / seconds) if rows else None,
        "cpu_seconds_per_million": round((cpu[-1] - cpu[0]) / rows * 1e6, 2) if rows else None,
        "sink_mb": highest_mb(looks),
    }


class Watch:
    """Looks at the log, a database and its sink until all tasks are stored."""

    def __init__(self, settings: Settings, results: Results, cluster: str) -> None:
        self._settings, self._results, self._cluster = settings, results, cluster

    def until_stored(
        self, tasks: int, sink: Process, others: Sequence[Process], path: Path
    ) -> tuple[list[Moment], list[Look]]:
        """What was seen; raises Ended if a process ends or time is up."""
        deadline = time.monotonic() + RUN_SECONDS
        moments: list[Moment] = []
        looks = [rig.look(sink)]
        with Database(path, self._cluster) as database:
            while not moments or moments[-1].stored < tasks:
                rig.check([sink, *others], deadline)
                time.sleep(LOOK_SECONDS)
                written = self._results.end()
                moments.append(Moment(time.time() * 1000, written, database.stored()))
                looks.append(rig.look(sink))
        return moments, looks


def beside(p: Pipeline, settings: Settings, watch: Watch, results: Results, tasks: int) -> Any:
    """One worker at full speed and the sink; returns the figures."""
    (worker,) = rig.start(p, settings, WORKER_GROUP)
    (sink,) = rig.start(p, settings, SINK_GROUP)
    with rig.held([worker, sink]):
        fill(settings, tasks)
    moments, looks = watch.until_stored(tasks, sink, [worker], settings.database)
    for process in (worker, sink):
        process.stop()
    check(settings.database, tasks)
    found = tally(results.pairs(tasks, lambda: None), tasks)
    return figures_beside(moments, found, looks)


def alone(p: Pipeline, settings: Settings, watch: Watch, tasks: int) -> Any:
    """A new sink over the same results; returns the figures."""
    path = settings.database.with_name("alone.sqlite")
    p.env["PETAL_DATABASE"] = str(path)
    sink = p.start(*rig.command(SINK_GROUP))
    moments, looks = watch.until_stored(tasks, sink, [], path)
    sink.stop()
    check(path, tasks)
    return figures_alone(moments, looks)


def measure(artifact: Path, kafka: bool, tasks: int) -> dict[str, Any]:
    """Both runs on a broker of their own; prints a line for each and returns the figures."""
    name = "kafka" if kafka else "embedded"
    found: dict[str, Any] = {"broker": name, "tasks": tasks}
    with rig.pipeline(artifact, kafka, **rig.holding(tasks)) as (p, settings):
        cluster = asyncio.run(admin.prepare(settings))
        results = Results(settings)
        watch = Watch(settings, results, cluster)
        found["beside"] = beside(p, settings, watch, results, tasks)
        print(f"{name}  {tasks:,} tasks  {found['beside']}", flush=True)
        found["alone"] = alone(p, settings, watch, tasks)
        print(f"{name}  {tasks:,} tasks  sink alone: {found['alone']}", flush=True)
        results.close()
    return found


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    rig.add_brokers(parser)
    return parser.parse_args(arguments)


def main() -> None:
    """Print a line per run and, last, the figures as one JSON object."""
    args = parse()
    with rig.iris() as artifact:
        figures = rig.on_brokers(args, lambda k: measure(artifact, k, args.tasks))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
