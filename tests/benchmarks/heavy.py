"""Whether a worker stays responsive while a heavy model predicts.

300 trees of full depth, fitted on noise. For each shape of backlog one worker is released and
watched while it predicts:

- `longest_silence_s`: the longest time in which its event loop did not write the status file,
  which it does once a second; far below `longest_predict_s` where predictions leave the loop;
- `rebalances`: how often it joined its group again, as it must after missed heartbeats;
- `stop_seconds` and `exit_code` after SIGTERM in the middle of its work;
- `repeated`: results that a second worker, which does the rest, gave again.
"""

import re
import signal
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from infra.config import Settings
from model import artifact as artifacts
from model.train import load, make_card
from streams.status import read_all
from streams.topics import WORKER_GROUP
from tests.benchmarks import rig
from tests.benchmarks.backlog import Results, fill
from tests.benchmarks.costs import rate, tally
from tests.processes import Pipeline, Process

TREES, FITTED_ROWS = 300, 2000
LOOK_SECONDS = 0.02
RUN_SECONDS = 600.0
STOP_SECONDS = 30.0
_JOINED = re.compile(r"Successfully joined group")


class Shape(NamedTuple):
    """A backlog: tasks of one row, then tasks of 1,000 rows."""

    single: int
    large: int


def shapes(rows: int) -> dict[str, Shape]:
    """Backlogs of about so many rows."""
    large = max(4, rows // 1000)
    return {"single": Shape(rows, 0), "large": Shape(0, large), "mixed": Shape(40, large)}


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
    """One worker until its stop in the middle, then another for the rest."""
    results = Results(settings)
    (worker,) = rig.start(p, settings, WORKER_GROUP)
    before = len(_JOINED.findall(worker.output))
    with rig.held([worker]):
        fill(settings, shape.single)
        fill(settings, shape.large, rows=1000)
    silence = watch(worker, settings, results, sum(shape) // 2)
    rebalances = len(_JOINED.findall(worker.output)) - before
    stop_seconds = stop(worker)
    (second,) = rig.start(p, settings, WORKER_GROUP)
    deadline = time.monotonic() + RUN_SECONDS
    results.wait(sum(shape), lambda: rig.check([second], deadline))
    records = results.read(sum(shape), lambda: rig.check([second], deadline))
    found = tally(((r.timestamp()[1], r.value()) for r in records), sum(shape))
    results.close()
    return {
        "rows_per_second": round(rate(found.stamps) * found.rows / len(found.stamps)),
        "longest_predict_s": round(found.longest_infer_ms / 1000, 2),
        "longest_silence_s": round(silence, 2),
        "rebalances": rebalances,
        "stop_seconds": stop_seconds,
        "exit_code": worker.exit_code,
        "repeated": found.repeated,
    }


def watch(worker: Process, settings: Settings, results: Results, until: int) -> float:
    """Wait for so many results, or the first of all; returns the longest silence in seconds."""
    deadline = time.monotonic() + RUN_SECONDS
    said, longest = time.time(), 0.0
    while results.end() < max(1, until):
        rig.check([worker], deadline)
        time.sleep(LOOK_SECONDS)
        said = max([said, *(s.at for s in read_all(settings.status) if s.pid == worker.pid)])
        longest = max(longest, time.time() - said)
    return longest


def stop(worker: Process) -> float | None:
    """SIGTERM; returns the seconds to its end, None if it did not come."""
    began = time.monotonic()
    worker.send(signal.SIGTERM)
    while time.monotonic() - began < STOP_SECONDS:
        if worker.exit_code is not None:
            return round(time.monotonic() - began, 2)
        time.sleep(LOOK_SECONDS)
    return None
