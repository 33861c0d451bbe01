"""Whether a worker stays responsive while a heavy model predicts.

The model has 300 trees of full depth, fitted on noise. For each shape of backlog, one worker is
monitored while it predicts:

- `longest_silence_s`: the longest time in which its event loop did not write the status file.
  It does so once a second, so about 1 means that predictions do not block the loop.
- `rebalances`: how often it rejoined its group, which it must do after missed heartbeats.

Then a second backlog of the same shape is published, and the worker gets SIGTERM after its first
result:

- `stop_seconds` and `exit_code`: how it stopped.
- `stopped_after`: the number of tasks that it answered before its end.
- `repeated`: the number of results that a second worker, which processes the rest, repeated.
"""

import re
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from infra.config import Settings
from infra.process.status import read_all
from infra.topics import WORKER_GROUP
from model import artifact as artifacts
from model.train import load, make_card
from tests.benchmarks import command_line, processes
from tests.benchmarks.backlog import Results, fill
from tests.benchmarks.figures import Tally, rate, tally
from tests.processes import Pipeline, Process

TREES, FITTED_ROWS = 300, 2000
MAX_TASK_ROWS = 30_000  # nearly the size limit of a message
WARM_UP_TASKS = 4
POLL_SECONDS = 0.02
RUN_SECONDS = 600.0
STOP_SECONDS = 30.0
_JOINED = re.compile(r"Successfully joined group")


class Shape(NamedTuple):
    """A backlog: the number of tasks, and of rows in each."""

    tasks: int
    rows: int


def shapes(rows: int) -> dict[str, Shape]:
    """Backlogs of about `rows` rows each. In the last one each partition has only a few tasks."""
    return {
        "single": Shape(rows, 1),
        "large": Shape(max(8, rows // 1000), 1000),
        "largest": Shape(max(8, rows // MAX_TASK_ROWS), MAX_TASK_ROWS),
    }


def save_forest(path: Path) -> None:
    """Fit the model and save it. Trees grow deepest on noise."""
    data, rng = load(), np.random.default_rng(0)
    X = rng.uniform(data.X.min(axis=0), data.X.max(axis=0), (FITTED_ROWS, data.X.shape[1]))
    model = RandomForestClassifier(TREES, random_state=0).fit(X, rng.choice(data.y, FITTED_ROWS))
    artifacts.save(model, make_card("forest", model, data.features), path)


def heavy(kafka: bool, rows: int) -> dict[str, Any]:
    """The figures of each shape."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "forest.joblib"
        save_forest(path)
        for name, shape in shapes(rows).items():
            with processes.pipeline(path, kafka) as (p, settings):
                found[name] = measure_shape(p, settings, shape)
            command_line.print_progress(kafka, f"heavy model, {name} tasks", found[name])
    return found


def measure_shape(p: Pipeline, settings: Settings, shape: Shape) -> dict[str, Any]:
    """Process two backlogs: one completely, and one in which the worker is stopped."""
    results = Results(settings)
    (worker,) = processes.start(p, settings, WORKER_GROUP)
    fill(settings, WARM_UP_TASKS)  # the worker estimates the cost of a row from these alone
    read_results(results, WARM_UP_TASKS, worker)
    joined = len(_JOINED.findall(worker.output))
    publish(settings, shape, worker)
    monitor = LoopMonitor(worker, settings)
    results.wait(shape.tasks, monitor.check, POLL_SECONDS)
    found = tally(results.pairs(shape.tasks, monitor.check), shape.tasks)
    rebalances = len(_JOINED.findall(worker.output)) - joined
    publish(settings, shape, worker)
    stop_seconds = stop(worker, results)
    (second,) = processes.start(p, settings, WORKER_GROUP)
    rest = read_results(results, shape.tasks, second)
    results.close()
    return {
        "rows_per_second": round(rate(found.stamps) * shape.rows),
        "longest_predict_s": round(found.longest_infer_ms / 1000, 2),
        "longest_silence_s": round(monitor.longest, 2),
        "rebalances": rebalances,
        "stop_seconds": stop_seconds,
        "exit_code": worker.exit_code,
        "repeated": rest.repeated,
        "stopped_after": rest.workers[f"{socket.gethostname()}-{worker.pid}"],
    }


def publish(settings: Settings, shape: Shape, worker: Process) -> None:
    """Publish a backlog while the worker is paused."""
    with processes.paused([worker]):
        fill(settings, *shape)


def read_results(results: Results, tasks: int, worker: Process) -> Tally:
    """Wait for the results of all tasks, and check them."""
    deadline = time.monotonic() + RUN_SECONDS
    return tally(results.pairs(tasks, lambda: processes.check_running([worker], deadline)), tasks)


class LoopMonitor:
    """Measures how long a worker's event loop does not write its status file."""

    def __init__(self, worker: Process, settings: Settings) -> None:
        self.longest = 0.0  # seconds of silence
        self._worker, self._folder = worker, settings.status
        self._written = time.time()
        self._deadline = time.monotonic() + RUN_SECONDS

    def check(self) -> None:
        """Read the status once; raises ProcessFailed if the worker ended or the time is over."""
        processes.check_running([self._worker], self._deadline)
        written = (s.at for s in read_all(self._folder) if s.pid == self._worker.pid)
        self._written = max([self._written, *written])
        self.longest = max(self.longest, time.time() - self._written)


def stop(worker: Process, results: Results) -> float | None:
    """Send SIGTERM after the first result of a backlog; returns the seconds until the end.

    None if the worker did not stop in time; it is then killed.
    """
    deadline = time.monotonic() + RUN_SECONDS
    while results.end() <= results.seen:
        processes.check_running([worker], deadline)
        time.sleep(POLL_SECONDS)
    began = time.monotonic()
    worker.send(signal.SIGTERM)
    while time.monotonic() - began < STOP_SECONDS:
        if worker.exit_code is not None:
            return round(time.monotonic() - began, 2)
        time.sleep(POLL_SECONDS)
    worker.kill()
    return None
