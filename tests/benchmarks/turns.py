"""One contender's turn: a broker of its own, a backlog of tasks, one worker, all its results."""

import re
import tempfile
import time
from pathlib import Path
from typing import Self

import psutil
from confluent_kafka import Message

from infra import config
from infra.config import Settings
from tests import processes
from tests.benchmarks import contenders
from tests.benchmarks.backlog import Results, fill
from tests.benchmarks.figures import Sample, Turn, find_fault, measure
from tests.processes import Process

TURN_SECONDS = 300.0
FIRST_RESULT_SECONDS = 60.0
FIRST_POLL_SECONDS = 0.02


_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class TurnFailed(Exception):
    """A contender ended, or did not answer all tasks in time; `str()` says how."""


class Watch:
    """Sees what one worker has written to `results`, and what CPU time it took."""

    def __init__(self, settings: Settings, worker: Process) -> None:
        self._worker = worker
        self._process = psutil.Process(worker.pid)
        self._results = Results(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._results.close()

    def sample(self) -> Sample:
        """The worker's CPU seconds by now."""
        times = self._process.cpu_times()
        return Sample(time.time() * 1000, times.user + times.system)

    def first(self) -> Sample:
        """Wait for the first result; returns the sample of that moment."""
        deadline = time.monotonic() + FIRST_RESULT_SECONDS
        while not self._results.end():
            self._check(deadline, f"no result within {FIRST_RESULT_SECONDS:g} s")
            time.sleep(FIRST_POLL_SECONDS)
        return self.sample()

    def all(self, tasks: int) -> list[Message]:
        """Wait for one result per task; returns their records."""
        deadline = time.monotonic() + TURN_SECONDS
        late = f"not all results within {TURN_SECONDS:g} s"

        def check() -> None:
            self._check(deadline, late)

        # The watermarks cost nothing to ask; so the results are read when nearly all or no
        # more are there.
        self._results.wait(tasks, check)
        return list(self._results.read(tasks, check))

    def _check(self, deadline: float, late: str) -> None:
        if self._worker.exit_code is not None:
            raise TurnFailed(f"ended with {self._worker.exit_code}: {self._last_words()}")
        if time.monotonic() > deadline:
            raise TurnFailed(f"{late}: {self._last_words()}")

    def _last_words(self) -> str:
        lines = _TERMINAL.sub("", self._worker.output).split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")[:500]


def turn(name: str, tasks: int, artifact: Path, kafka: bool = False) -> Turn:
    """Let one contender work through a backlog of its own; raises TurnFailed."""
    command = contenders.prepare(name)
    with (
        tempfile.TemporaryDirectory() as folder,
        processes.pipeline(Path(folder), artifact, kafka) as pipeline,
    ):
        settings = config.load(pipeline.env)
        fill(settings, tasks)
        with Watch(settings, pipeline.start(*command)) as watch:
            first = watch.first()
            records = watch.all(tasks)
            last = watch.sample()
    if fault := find_fault([record.value() for record in records], tasks):
        raise TurnFailed(fault)
    return measure([record.timestamp()[1] for record in records], first, last)
