"""A model in this process, with the queue before it."""

import time
from concurrent.futures import Executor

from api.batching import Batcher, Limits
from api.datatypes import Array
from model.artifact import Loaded
from model.predict import Prediction, predict


class Served:
    """One version of a model. With `cpu_seconds` each request costs that much CPU time."""

    def __init__(
        self,
        loaded: Loaded,
        executor: Executor,
        limits: Limits,
        version: str | None = None,
        cpu_seconds: float = 0.0,
    ) -> None:
        self.card = loaded.card
        self.version = version or digest_version(loaded.card.sha256)
        self._model = loaded.model
        self._cpu_seconds = cpu_seconds
        if cpu_seconds:
            limits = limits._replace(batch_rows=1)  # together they would cost as little as one
        answer = self._predict_long if cpu_seconds else self._predict
        self.batcher = Batcher(answer, executor, limits, inline=not cpu_seconds)

    def _predict(self, X: Array) -> Prediction:
        return predict(self._model, X)

    def _predict_long(self, X: Array) -> Prediction:
        end = time.thread_time() + self._cpu_seconds
        prediction = predict(self._model, X)
        while time.thread_time() < end:
            prediction = predict(self._model, X)
        return prediction


def digest_version(sha256: str) -> str:
    """The version of a model that has no other: the first 12 hex digits of its SHA-256."""
    return sha256[:12]
