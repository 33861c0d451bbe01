"""The pipeline's processes as the Procfile starts them, ready and watched."""

import argparse
import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from infra import config
from infra.config import Settings
from infra.process.status import read_all
from infra.topics import SINK_GROUP, WORKER_GROUP
from model import artifact as artifacts
from model.train import train
from tests import processes
from tests.benchmarks.costs import Look
from tests.processes import Pipeline, Process, wait_until

SHORTEST_SESSION = 3.0
SLOWEST_ROWS_PER_SECOND = 20_000  # of publishing
READY_SECONDS = 180.0
APPS = {WORKER_GROUP: "streams.worker", SINK_GROUP: "streams.sink"}


class Ended(Exception):
    """A process that is measured ended, or is too late; `str()` says which and how."""


@contextlib.contextmanager
def pipeline(artifact: Path, kafka: bool, **settings: str) -> Iterator[tuple[Pipeline, Settings]]:
    """A broker of its own and the settings of everything else, in a folder of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        processes.pipeline(Path(folder), artifact, kafka) as p,
    ):
        p.env.update({config.variable(name): value for name, value in settings.items()})
        yield p, config.load(p.env)


def command(group: str) -> tuple[str, ...]:
    """The command that starts a worker or a sink."""
    return ("faust", "-A", APPS[group], "-L", "uvloop", "worker", "-l", "info")


def start(p: Pipeline, settings: Settings, group: str, count: int = 1) -> list[Process]:
    """Start workers or sinks; returns once they share all partitions."""
    started = [p.start(*command(group)) for _ in range(count)]
    pids = {process.pid for process in started}

    def ready() -> bool:
        check(started)
        said = [s for s in read_all(settings.status) if s.pid in pids and s.state == "ready"]
        shares = [len(s.partitions) for s in said]
        return len(shares) == count and all(shares) and sum(shares) == settings.partitions

    wait_until(ready, READY_SECONDS, f"{count} processes of {group} share the partitions")
    return started


def check(running: list[Process], deadline: float = float("inf")) -> None:
    """Raise Ended if a process has ended, or the deadline (`time.monotonic`) has passed."""
    for process in running:
        if process.exit_code is not None:
            raise Ended(f"{process.log.name} ended with {process.exit_code}: {process.output}")
    if time.monotonic() > deadline:
        raise Ended(f"{', '.join(process.log.name for process in running)}: too late")


@contextlib.contextmanager
def iris() -> Iterator[Path]:
    """The example's artifact, trained into a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "iris.joblib"
        artifacts.save(*train(seed=0), path)
        yield path


def holding(rows: int) -> dict[str, str]:
    """Settings for processes that are held while so many rows are published: they must neither
    lose their partitions meanwhile nor think that they stalled. The embedded broker forms a
    group only after half of the session's time-out, so it is no longer than needed."""
    seconds = SHORTEST_SESSION + rows / SLOWEST_ROWS_PER_SECOND
    return {"session_timeout": f"{seconds:g}", "stall_timeout": "600"}


@contextlib.contextmanager
def held(stopped: list[Process]) -> Iterator[None]:
    """Hold processes still, so that a backlog waits for one that is warm."""
    for process in stopped:
        process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            process.send(signal.SIGCONT)


def look(process: Process) -> Look:
    """A process's CPU time and memory by now."""
    return Look(time.time() * 1000, cpu_seconds(process.pid), _resident(process.pid))


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process. On Linux in nanoseconds (see clock_getcpuclockid(3)); psutil
    counts in hundredths of a second, an eighth of what 10,000 tasks take."""
    if psutil.LINUX:
        return time.clock_gettime((~pid << 3) | 2)
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _resident(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def add_brokers(parser: argparse.ArgumentParser) -> None:
    """The options that name the broker: `--kafka` or `--both`."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--kafka", action="store_true", help="on Apache Kafka (needs mvn, Java)")
    where.add_argument("--both", action="store_true", help="on the embedded broker, then on Kafka")


def on_brokers(
    args: argparse.Namespace, measure: Callable[[bool], dict[str, Any]]
) -> dict[str, Any]:
    """What `measure(kafka)` gives on the broker of the options. With `--both` the figures on
    Apache Kafka stand under `kafka`, null where it cannot run."""
    figures = measure(args.kafka)
    if args.both:
        missing = missing_for_kafka()
        if missing:
            print(f"kafka is left out: there is no {' and no '.join(missing)}", flush=True)
        figures["kafka"] = None if missing else measure(True)
    return figures


def missing_for_kafka() -> list[str]:
    """What Apache Kafka needs and this machine lacks."""
    return [name for name in ("java", "mvn") if shutil.which(name) is None]


def say(kafka: bool, what: str, figures: dict[str, Any]) -> None:
    """One line of progress."""
    told = "  ".join(f"{name} {value}" for name, value in figures.items())
    print(f"{'kafka' if kafka else 'embedded'}  {what}  {told}", flush=True)
