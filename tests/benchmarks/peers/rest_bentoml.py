"""A BentoML service with adaptive batching, as in its documentation."""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=1)
class Iris:
    """Predicts rows; the server puts those of several requests into one batch."""

    def __init__(self) -> None:
        self._model = joblib.load(os.environ["PETAL_MODEL"])

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=10_000)
    def infer(self, X: list[list[float]]) -> list[dict[str, object]]:
        """A label and probabilities for each row."""
        rows = np.array(X)
        pairs = zip(self._model.predict(rows), self._model.predict_proba(rows), strict=True)
        return [{"y": str(y), "proba": proba.tolist()} for y, proba in pairs]
