"""Whether a worker stays responsive while a heavy model predicts.

300 trees of full depth, fitted on noise. For each shape of backlog one worker is released and
watched while it predicts:

- `longest_silence_s`: the longest time for which its event loop did not write the status file.
  It does so once a second; about 1 means that predictions leave the loop.
- `rebalances`: how often it joined its group again, as it must after missed heartbeats.

Then a second backlog of the same shape: `stop_seconds` and `exit_code` after SIGTERM, sent when
the first result is there; `stopped_after`, the tasks that it still answered; `repeated`, results
that a second worker, which does the rest, gave again.
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
from tests.benchmarks import rig
from tests.benchmarks.backlog import Results, fill
from tests.benchmarks.costs import Tally, rate, tally
from tests.processes import Pipeline, Process

TREES, FITTED_ROWS = 300, 2000
LARGEST_ROWS = 30_000
WARM_UP_TASKS = 4
LOOK_SECONDS = 0.02
RUN_SECONDS = 600.0
STOP_SECONDS = 30.0
_JOINED = re.compile(r"Successfully joined group")


class Shape(NamedTuple):
    """A backlog: so many tasks of so many rows."""

    tasks: int
    rows: int


def shapes(rows: int) -> dict[str, Shape]:
    """Backlogs of about so many rows. In the last one each partition has only a few tasks,
    all nearly as large as a message may be."""
    return {
        "single": Shape(rows, 1),
        "large": Shape(max(8, rows // 1000), 1000),
        "largest": Shape(max(8, rows // LARGEST_ROWS), LARGEST_ROWS),
    }


def save_forest(path: Path) -> None:
    """Fit and save the model. Noise grows the deepest trees."""
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
            with rig.pipeline(path, kafka) as (p, settings):
                found[name] = of_shape(p, settings, shape)
            rig.say(kafka, f"heavy model, {name} tasks", found[name])
    return found


def of_shape(p: Pipeline, settings: Settings, shape: Shape) -> dict[str, Any]:
    """Two backlogs: one to its end, and one in which the worker is stopped."""
    results = Results(settings)
    (worker,) = rig.start(p, settings, WORKER_GROUP)
    fill(settings, WARM_UP_TASKS)  # what these took is all that the worker knows of its model
    read_all_of(results, WARM_UP_TASKS, worker)
    joined = len(_JOINED.findall(worker.output))
    publish(settings, shape, worker)
    watch = Watch(worker, settings)
    results.wait(shape.tasks, watch.look, LOOK_SECONDS)
    found = tally(results.pairs(shape.tasks, watch.look), shape.tasks)
    rebalances = len(_JOINED.findall(worker.output)) - joined
    publish(settings, shape, worker)
    stop_seconds = stop(worker, results)
    (second,) = rig.start(p, settings, WORKER_GROUP)
    rest = read_all_of(results, shape.tasks, second)
    results.close()
    return {
        "rows_per_second": round(rate(found.stamps) * shape.rows),
        "longest_predict_s": round(found.longest_infer_ms / 1000, 2),
        "longest_silence_s": round(watch.longest, 2),
        "rebalances": rebalances,
        "stop_seconds": stop_seconds,
        "exit_code": worker.exit_code,
        "repeated": rest.repeated,
        "stopped_after": rest.workers[f"{socket.gethostname()}-{worker.pid}"],
    }


def publish(settings: Settings, shape: Shape, worker: Process) -> None:
    """Publish a backlog while the worker is held."""
    with rig.held([worker]):
        fill(settings, *shape)


def read_all_of(results: Results, tasks: int, worker: Process) -> Tally:
    """Wait for the results of so many tasks, and check them."""
    deadline = time.monotonic() + RUN_SECONDS
    return tally(results.pairs(tasks, lambda: rig.check([worker], deadline)), tasks)


class Watch:
    """Looks at what a worker's event loop says of itself."""

    def __init__(self, worker: Process, settings: Settings) -> None:
        self.longest = 0.0  # seconds of silence
        self._worker, self._folder = worker, settings.status
        self._said = time.time()
        self._deadline = time.monotonic() + RUN_SECONDS

    def look(self) -> None:
        """Look once; raises Ended if the worker has ended or time is up."""
        rig.check([self._worker], self._deadline)
        said = (s.at for s in read_all(self._folder) if s.pid == self._worker.pid)
        self._said = max([self._said, *said])
        self.longest = max(self.longest, time.time() - self._said)


def stop(worker: Process, results: Results) -> float | None:
    """SIGTERM after the first result of a backlog; returns the seconds to its end, None if it
    did not come."""
    deadline = time.monotonic() + RUN_SECONDS
    while results.end() <= results.seen:
        rig.check([worker], deadline)
        time.sleep(LOOK_SECONDS)
    began = time.monotonic()
    worker.send(signal.SIGTERM)
    while time.monotonic() - began < STOP_SECONDS:
        if worker.exit_code is not None:
            return round(time.monotonic() - began, 2)
        time.sleep(LOOK_SECONDS)
    worker.kill()
    return None
