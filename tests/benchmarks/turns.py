"""One contender's turn: a broker of its own, a backlog of tasks, one worker, all its results."""

import re
import tempfile
import time
from pathlib import Path
from typing import Self

import psutil
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from infra import config
from infra.config import Settings
from streams.client import encode_task
from streams.events import new_id
from streams.topics import RESULTS, TASKS
from tests import processes
from tests.benchmarks import contenders
from tests.benchmarks.figures import Sample, Turn, find_fault, measure
from tests.processes import Process

TURN_SECONDS = 300.0
FIRST_RESULT_SECONDS = 60.0
FIRST_POLL_SECONDS = 0.02
POLL_SECONDS = 0.25
QUIET_SECONDS = 2.0


_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class TurnFailed(Exception):
    """A contender ended, or did not answer all tasks in time; `str()` says how."""


def fill(settings: Settings, tasks: int) -> None:
    """Publish single-row tasks, spread over the partitions."""
    producer = Producer(
        {
            "bootstrap.servers": settings.bootstrap,
            "linger.ms": 20,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    for n in range(tasks):
        task_id = new_id()
        row = [4.3 + n % 36 / 10, 2.0 + n % 24 / 10, 1.0 + n % 59 / 10, 0.1 + n % 24 / 10]
        value = encode_task([row], task_id)
        producer.produce(TASKS, value, task_id, partition=n % settings.partitions)
        if n % 10_000 == 0:
            producer.poll(0)
    if producer.flush(60):
        raise RuntimeError("the broker did not take all tasks")


class Watch:
    """Sees what one worker has written to `results`, and what CPU time it took."""

    def __init__(self, settings: Settings, worker: Process) -> None:
        self._worker = worker
        self._process = psutil.Process(worker.pid)
        self._partitions = [TopicPartition(RESULTS, p, 0) for p in range(settings.partitions)]
        self._reader = Consumer(
            {
                "bootstrap.servers": settings.bootstrap,
                "group.id": "benchmark",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def sample(self) -> Sample:
        """The worker's CPU seconds by now."""
        times = self._process.cpu_times()
        return Sample(time.time() * 1000, times.user + times.system)

    def first(self) -> Sample:
        """Wait for the first result; returns the sample of that moment."""
        deadline = time.monotonic() + FIRST_RESULT_SECONDS
        while not self._ends():
            self._check(deadline, f"no result within {FIRST_RESULT_SECONDS:g} s")
            time.sleep(FIRST_POLL_SECONDS)
        return self.sample()

    def all(self, tasks: int) -> list[Message]:
        """Wait for one result per task; returns their records."""
        deadline = time.monotonic() + TURN_SECONDS
        late = f"not all results within {TURN_SECONDS:g} s"
        # The watermarks cost nothing to ask, but the embedded broker's are short by up to a
        # batch per partition; so the results are read when nearly all or no more are there.
        seen, since = 0, time.monotonic()
        while seen < tasks and time.monotonic() - since < QUIET_SECONDS:
            self._check(deadline, late)
            time.sleep(POLL_SECONDS)
            if (now := self._ends()) != seen:
                seen, since = now, time.monotonic()
        self._reader.assign(self._partitions)
        records: list[Message] = []
        while len(records) < tasks:
            self._check(deadline, late)
            records += [m for m in self._reader.consume(10_000, 0.5) if not m.error()]
        return records

    def _ends(self) -> int:
        ends = [self._reader.get_watermark_offsets(tp, timeout=10)[1] for tp in self._partitions]
        return sum(ends)

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
