"""A model in this process, answering off the event loop where it is slow."""

import asyncio
import time
from concurrent.futures import Executor

from api.metrics import ModelMetrics
from api.tensors import Array
from model.artifact import Loaded
from model.predict import Prediction, predict

INLINE_SECONDS = 0.002  # a hop to a thread and back costs about a tenth of it


class Served:
    """A model and its card. `predict` is for one event loop."""

    def __init__(
        self, loaded: Loaded, executor: Executor, metrics: ModelMetrics, cpu_bound_ms: int = 0
    ) -> None:
        self.card = loaded.card
        self.metrics = metrics
        self._model = loaded.model
        self._executor = executor
        self._cpu_seconds = cpu_bound_ms / 1000
        # Of the last call: from it the next one's cost is guessed.
        self._rows, self._seconds = 1, float("inf")

    async def predict(self, X: Array) -> Prediction:
        """Predict all rows of `X`, shape (rows, features), at once; raises PredictError.

        With `cpu_bound_ms` the call spends that much CPU time.
        """
        asked, loop = time.perf_counter(), asyncio.get_running_loop()
        if self._cpu_seconds:
            return await loop.run_in_executor(self._executor, self._predict_long, X)
        if self._seconds * max(1.0, len(X) / self._rows) <= INLINE_SECONDS:
            return self._predict(X, asked)
        return await loop.run_in_executor(self._executor, self._predict, X, asked)

    def _predict(self, X: Array, asked: float) -> Prediction:
        start = time.perf_counter()
        prediction = predict(self._model, X)
        self._rows, self._seconds = len(X), time.perf_counter() - start
        self.metrics.predicted(len(X), start - asked, self._seconds)
        return prediction

    def _predict_long(self, X: Array) -> Prediction:
        end = time.thread_time() + self._cpu_seconds
        prediction = predict(self._model, X)
        while time.thread_time() < end:
            prediction = predict(self._model, X)
        return prediction
