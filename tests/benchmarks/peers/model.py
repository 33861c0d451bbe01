"""The model as the peers load it, and the other fields of a result.

It imports nothing of the project, because some peers run in environments without it. The model
is unpickled without the checks that the project's worker makes.
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


class Prediction(NamedTuple):
    """The labels and probabilities of one call, and its duration in milliseconds."""

    y: list[Any]
    proba: list[list[float]]
    ms: float


class Model:
    """The estimator of `PETAL_MODEL`, and the id that results carry."""

    def __init__(self) -> None:
        path = Path(os.environ["PETAL_MODEL"])
        card = json.loads(path.with_suffix(".json").read_text())
        self.id = f"{card['name']}@{card['sha256'][:12]}"
        self._estimator = joblib.load(path)
        # As scikit-learn's documentation advises for small predictions.
        sklearn.set_config(assume_finite=True, skip_parameter_validation=True)
        threadpool_limits(1)

    def predict(self, rows: list[list[float]]) -> Prediction:
        """Predict all rows at once."""
        start = time.perf_counter()
        X = np.array(rows, dtype=np.float64)
        y = self._estimator.predict(X).tolist()
        proba = self._estimator.predict_proba(X).tolist()
        return Prediction(y, proba, round((time.perf_counter() - start) * 1000, 3))


def digest(rows: list[list[float]]) -> str:
    """The XXH3-64 of a task's rows that its result carries."""
    return xxh3_64_hexdigest(array("d", chain.from_iterable(rows)))


def queue_ms(published_at: float) -> float:
    """Milliseconds since a task was published."""
    return round(max(0.0, time.time() - published_at) * 1000, 3)


def slices(counts: list[int]) -> list[slice]:
    """The slice of each task's rows among the rows of all tasks."""
    ends = np.cumsum(counts).tolist()
    return [slice(end - n, end) for end, n in zip(ends, counts, strict=True)]
