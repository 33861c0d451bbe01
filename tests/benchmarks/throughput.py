"""Tasks per second of one worker process, compared with other workers.

`make bench`, or `python -m tests.benchmarks.throughput --peers best,plain --pairs 5`. Each run
starts its own broker, publishes a backlog to `tasks`, starts one worker and waits for all
results. The rate is counted from the first to the last result by their timestamps in the log.
So it includes neither the worker's start nor the reading of the results. It does not include
the work on the first batch either, which favours workers with large batches. CPU seconds are
counted from the moment when the first result is seen, and divided by the number of results
written after it. Every result is checked: it must keep the full contract, and each task must
have one.

Runs of the workers alternate. A ratio is ours over theirs: the median of the ratios of
neighbouring runs. Slow peers get fewer runs of fewer tasks; their ratio is the ratio of the
medians. A peer that cannot run has null, and its reason is under `left_out`.
"""

import argparse
import json
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from confluent_kafka import Message

from infra import config
from infra.config import Settings
from tests import processes
from tests.benchmarks import command_line, workers
from tests.benchmarks.backlog import Results, fill
from tests.benchmarks.figures import Run, Sample, find_fault, find_uncopied, measure, report
from tests.benchmarks.processes import sample
from tests.benchmarks.workers import OURS, all_peers, parse_peers, workload
from tests.processes import Process

RUN_SECONDS = 300.0
FIRST_RESULT_SECONDS = 60.0
FIRST_POLL_SECONDS = 0.02
_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class RunFailed(Exception):
    """A worker ended, or did not answer all tasks in time; `str()` gives the reason."""


class WorkerMonitor:
    """Waits for the results of one worker and samples its process. A context manager."""

    def __init__(self, settings: Settings, worker: Process) -> None:
        self._worker = worker
        self._results = Results(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._results.close()

    def wait_for_first(self) -> Sample:
        """Wait for the first result; returns the worker's sample at that moment."""
        deadline = time.monotonic() + FIRST_RESULT_SECONDS
        while not self._results.end():
            self._check(deadline, f"no result within {FIRST_RESULT_SECONDS:g} s")
            time.sleep(FIRST_POLL_SECONDS)
        return sample(self._worker)

    def wait_for_all(self, tasks: int) -> list[Message]:
        """Wait for one result per task; returns their records."""
        deadline = time.monotonic() + RUN_SECONDS

        def check() -> None:
            self._check(deadline, f"not all results within {RUN_SECONDS:g} s")

        # Reading would disturb the worker, and asking for the watermarks costs nothing. So the
        # results are read only when nearly all are there, or no more come.
        self._results.wait(tasks, check)
        return list(self._results.read(tasks, check))

    def _check(self, deadline: float, timed_out: str) -> None:
        if self._worker.exit_code is not None:
            raise RunFailed(f"ended with {self._worker.exit_code}: {self._last_line()}")
        if time.monotonic() > deadline:
            raise RunFailed(f"{timed_out}: {self._last_line()}")

    def _last_line(self) -> str:
        lines = _TERMINAL_CODE.sub("", self._worker.output).split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")[:500]


def run(name: str, tasks: int, artifact: Path, kafka: bool = False) -> Run:
    """Measure one worker over a new backlog on a new broker; raises RunFailed."""
    try:
        command = workers.command(name)
    except (subprocess.CalledProcessError, OSError) as e:
        raise RunFailed(f"its virtual environment cannot be created: {e}") from e
    with (
        tempfile.TemporaryDirectory() as folder,
        processes.pipeline(Path(folder), artifact, kafka) as pipeline,
    ):
        settings = config.load(pipeline.env)
        fill(settings, tasks)
        worker = pipeline.start(*command)
        with WorkerMonitor(settings, worker) as monitor:
            first = monitor.wait_for_first()
            records = monitor.wait_for_all(tasks)
            last = sample(worker)
    find = find_uncopied if workers.WORKERS[name].copies else find_fault
    if fault := find([record.value() for record in records], tasks):
        raise RunFailed(fault)
    return measure([record.timestamp()[1] for record in records], first, last)


def compare(
    peers: list[str], tasks: int, pairs: int, artifact: Path, kafka: bool
) -> dict[str, Any]:
    """Run the workers in alternating order; prints each run and returns the figures.

    A peer that fails is left out from then on, with the reason. If ours fails, RunFailed is
    raised.
    """
    broker = command_line.broker_name(kafka)
    runs: dict[str, list[Run]] = {name: [] for name in (OURS, *peers)}
    left_out: dict[str, str] = {}
    for n in range(pairs):
        for name in list(runs) if n % 2 == 0 else list(reversed(runs)):
            own_tasks, own_runs = workload(name, tasks, pairs)
            if n >= own_runs or name in left_out:
                continue
            try:
                done = run(name, own_tasks, artifact, kafka)
            except RunFailed as e:
                if name == OURS:
                    raise
                left_out[name] = str(e)
                print(f"{broker}  {name} is left out: {e}", flush=True)
                continue
            runs[name].append(done)
            print(_line(broker, n + 1, pairs, name, done), flush=True)
    head = {"broker": broker, "tasks": tasks, "pairs": pairs}
    return {**head, **report(runs, left_out)}


def _line(broker: str, n: int, pairs: int, name: str, done: Run) -> str:
    cpu = "" if done.cpu is None else f"{done.cpu:8.2f} CPU s/million"
    return f"{broker}  pair {n}/{pairs}  {name:12} {done.rate:10,.0f} tasks/s {cpu}"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; `peers` becomes the list of names."""
    parser = command_line.make_parser("tests.benchmarks.throughput", __doc__)
    parser.add_argument("--tasks", type=int, default=100_000, help="tasks in each run")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each worker")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--peers", default="best", help=f"from: {','.join(all_peers())}")
    which.add_argument("--all", action="store_true", help="compare with all peers")
    command_line.add_broker_options(parser)
    args = parser.parse_args(arguments)
    try:
        args.peers = all_peers() if args.all else parse_peers(args.peers)
    except ValueError as e:
        parser.error(str(e))
    return args


def main() -> None:
    """Print a line per run and, last, the figures as one JSON object."""
    args = parse()
    with command_line.trained_iris() as path:
        figures = command_line.measure_on_brokers(
            args, lambda kafka: compare(args.peers, args.tasks, args.pairs, path, kafka)
        )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
