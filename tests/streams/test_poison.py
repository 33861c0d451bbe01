"""A record that ends every worker that touches it is found and set aside; all others are answered.

With real processes under the supervisor, and a real broker.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from infra.config import Settings
from infra.process.status import read_all
from infra.topics import DEAD_LETTERS, RESULTS
from model import artifact as artifacts
from model.train import describe, make_card
from streams.codec import decode_result
from streams.events import Failure, Result
from tests.estimators import ENDLESS, FATAL, Killer
from tests.processes import ROOT, Pipeline, Process, wait_until
from tests.streams.test_pipeline import publish, read_topic, settings_of

STALL_SECONDS = 3
TASKS = 600
DEADLINE_SECONDS = 150  # on a busy machine; 35 on an idle one


@pytest.fixture
def killer(tmp_path: Path, pipeline: Pipeline) -> Pipeline:
    """A pipeline with a model that some rows end or block."""
    X = np.arange(8.0).reshape(4, 2)
    model = Killer().fit(X, X[:, 0])
    card = make_card("killer", model, describe(X, ["a", "b"]))
    artifacts.save(model, card, tmp_path / "killer.joblib")
    pipeline.env |= {
        "PETAL_MODEL": str(tmp_path / "killer.joblib"),
        "PETAL_STALL_TIMEOUT": str(STALL_SECONDS),
        "PETAL_SESSION_TIMEOUT": "6" if "PETAL_BROKER" in pipeline.env else "3",  # Kafka's least
        "PETAL_ISOLATED_MEMORY_MB": "400",
        "PYTHONPATH": str(ROOT),  # where the estimator's class is
    }
    return pipeline


@pytest.fixture
def supervised(killer: Pipeline) -> Iterator[list[Process]]:
    """Two workers that are restarted whenever they end."""
    faust = ("faust", "-A", "streams.worker", "worker", "-l", "info")
    workers = [killer.start("python", "-m", "infra.restart", *faust) for _ in range(2)]
    try:
        for worker in workers:
            worker.wait_for("Worker ready")
        yield workers
    finally:
        for worker in workers:
            worker.stop()


def results_of(settings: Settings) -> dict[str, Result]:
    results = (decode_result(r.value) for r in read_topic(settings, RESULTS))
    return {r.id: r for r in results}


def answered(settings: Settings) -> set[str]:
    time.sleep(0.3)  # a poll reads the whole topic
    return {r.key.decode() for r in read_topic(settings, RESULTS)}


def ready_workers(settings: Settings) -> int:
    return sum(s.state == "ready" for s in read_all(settings.status))


@pytest.mark.timeout(240)
def test_rows_that_end_or_block_every_worker_cost_only_themselves(
    killer: Pipeline, supervised: list[Process]
) -> None:
    settings = settings_of(killer)
    rows = [[float(n % 10), 1.0] for n in range(TASKS)]
    asked = publish(settings, rows[: TASKS // 2])
    fatal = publish(settings, [[ENDLESS, float(n)] for n in range(len(FATAL))])
    asked |= publish(settings, rows[TASKS // 2 :])
    wanted = set(asked) | set(fatal)
    wait_until(lambda: answered(settings) == wanted, DEADLINE_SECONDS, "an end for every task")
    results = results_of(settings)
    assert {i: results[i].y for i in asked} == {i: [row[0]] for i, row in asked.items()}
    assert [results[i].error for i in fatal] == [
        Failure("predict_crashed", "the process that tried it ended with SIGSEGV"),
        Failure("predict_timeout", f"no answer within {STALL_SECONDS} s"),
        Failure("predict_failed", "MemoryError: "),
    ]
    assert read_topic(settings, DEAD_LETTERS) == []
    wait_until(lambda: ready_workers(settings) == len(supervised), 30, "workers are ready")
