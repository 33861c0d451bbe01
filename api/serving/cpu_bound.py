"""A model whose predictions cost CPU time, to show where a REST service meets its limit."""

import time
from typing import Any

from model.predict import Array


class CpuBound:
    """A model each of whose predictions takes `seconds` of CPU time; else as the model itself."""

    def __init__(self, model: Any, seconds: float) -> None:
        self._model = model
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, X: Array) -> Any:
        """Call the model's `predict` repeatedly until the time is spent."""
        end = time.thread_time() + self._seconds
        y = self._model.predict(X)
        while time.thread_time() < end:
            y = self._model.predict(X)
        return y
