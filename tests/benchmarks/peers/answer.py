"""What the peers answer with: the model, and what a result tells beside its labels.

Of the project it imports nothing: some peers run where it is not. The model is unpickled without
the checks that the project's worker makes.
"""

import json
import os
import time
from array import array
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import sklearn
from threadpoolctl import threadpool_limits
from xxhash import xxh3_64_hexdigest


class Answer(NamedTuple):
    """One call's labels and probabilities, and its milliseconds."""

    y: list[Any]
    proba: list[list[float]]
    ms: float


class Model:
    """The estimator of `PETAL_MODEL`, and its id as results carry it."""

    def __init__(self) -> None:
        path = Path(os.environ["PETAL_MODEL"])
        card = json.loads(path.with_suffix(".json").read_text())
        self.id = f"{card['name']}@{card['sha256'][:12]}"
        self._estimator = joblib.load(path)
        # What scikit-learn's documentation advises for the speed of small predictions.
        sklearn.set_config(assume_finite=True, skip_parameter_validation=True)
        threadpool_limits(1)

    def predict(self, rows: list[list[float]]) -> Answer:
        """Labels and probabilities of all rows at once."""
        start = time.perf_counter()
        X = np.array(rows, dtype=np.float64)
        y = self._estimator.predict(X).tolist()
        proba = self._estimator.predict_proba(X).tolist()
        return Answer(y, proba, round((time.perf_counter() - start) * 1000, 3))


def digest(rows: list[list[float]]) -> str:
    """The XXH3-64 of a task's rows that its result carries."""
    return xxh3_64_hexdigest(array("d", chain.from_iterable(rows)))


def queue_ms(asked_at: float) -> float:
    """Milliseconds since a task was asked."""
    return round(max(0.0, time.time() - asked_at) * 1000, 3)


def slices(counts: list[int]) -> list[slice]:
    """Where each task's rows stand among the rows of all."""
    ends = np.cumsum(counts).tolist()
    return [slice(end - n, end) for end, n in zip(ends, counts, strict=True)]
