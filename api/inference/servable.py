"""A model in this process, with the queue before it."""

import time
from concurrent.futures import Executor
from functools import partial
from typing import Any

from api.inference.datatypes import Array
from api.inference.fast_request import Plain
from api.inference.response import Replies
from api.metrics import ModelMetrics
from api.serving.batcher import Batcher, Limits
from model.artifact import Loaded
from model.predict import predict


class Served:
    """One version of a model."""

    def __init__(
        self,
        loaded: Loaded,
        version: str,
        executor: Executor,
        limits: Limits,
        metrics: ModelMetrics,
    ) -> None:
        self.card = loaded.card
        self.version = version
        self.metrics = metrics
        self.plain = Plain(loaded.card)
        self.replies = Replies(loaded.card, version)
        self.batcher = Batcher(partial(predict, loaded.model), executor, limits, metrics.predicted)


class CpuBound:
    """A model each of whose predictions takes so many seconds of CPU time."""

    def __init__(self, model: Any, seconds: float) -> None:
        self._model = model
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, X: Array) -> Any:
        """The model's answer, after that time."""
        end = time.thread_time() + self._seconds
        y = self._model.predict(X)
        while time.thread_time() < end:
            y = self._model.predict(X)
        return y


def digest_version(sha256: str) -> str:
    """The version of a model that has no other: the first 12 hex digits of its SHA-256."""
    return sha256[:12]
