"""Processes of the pipeline, started as the Procfile starts them, and how they are measured."""

import contextlib
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from infra import config
from infra.config import Settings
from infra.process.status import read_all
from infra.topics import SINK_GROUP, WORKER_GROUP
from tests import processes
from tests.benchmarks.figures import Sample
from tests.processes import Pipeline, Process, wait_until

MIN_SESSION_SECONDS = 3.0
MIN_PUBLISHED_ROWS_PER_SECOND = 20_000
READY_SECONDS = 180.0
APPS = {WORKER_GROUP: "streams.worker", SINK_GROUP: "streams.sink"}


class ProcessFailed(Exception):
    """A measured process ended, or did not finish in time; `str()` names it."""


@contextlib.contextmanager
def pipeline(artifact: Path, kafka: bool, **settings: str) -> Iterator[tuple[Pipeline, Settings]]:
    """Start a broker in a temporary folder; yields the settings that connect to it."""
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
        check_running(started)
        statuses = [s for s in read_all(settings.status) if s.pid in pids and s.state == "ready"]
        counts = [len(s.partitions) for s in statuses]
        return len(counts) == count and all(counts) and sum(counts) == settings.partitions

    wait_until(ready, READY_SECONDS, f"{count} processes of {group} share the partitions")
    return started


def check_running(running: list[Process], deadline: float = float("inf")) -> None:
    """Raise ProcessFailed if a process has ended, or the deadline (`time.monotonic`) is over."""
    for process in running:
        if process.exit_code is not None:
            raise ProcessFailed(
                f"{process.log.name} ended with {process.exit_code}: {process.output}"
            )
    if time.monotonic() > deadline:
        names = ", ".join(process.log.name for process in running)
        raise ProcessFailed(f"{names}: did not finish in time")


def pause_settings(rows: int) -> dict[str, str]:
    """Settings for processes that are paused while `rows` rows are published.

    A paused process must keep its partitions, and must not take the pause for a stall. The
    session timeout is no longer than needed, because the embedded broker forms a group only
    after half of it.
    """
    seconds = MIN_SESSION_SECONDS + rows / MIN_PUBLISHED_ROWS_PER_SECOND
    return {"session_timeout": f"{seconds:g}", "stall_timeout": "600"}


@contextlib.contextmanager
def paused(running: list[Process]) -> Iterator[None]:
    """Pause processes (SIGSTOP), so that a complete backlog waits for a warm process."""
    for process in running:
        process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in running:
            process.send(signal.SIGCONT)


def sample(process: Process) -> Sample:
    """The CPU time and memory that a process has used until now."""
    resident = int(psutil.Process(process.pid).memory_info().rss)
    return Sample(time.time() * 1000, cpu_seconds(process.pid), resident)


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process, on Linux in nanoseconds (see clock_getcpuclockid(3)).

    psutil counts in hundredths of a second, an eighth of the time that 10,000 tasks take.
    """
    if psutil.LINUX:
        return time.clock_gettime((~pid << 3) | 2)
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
