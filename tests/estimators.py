"""Estimators that misbehave on purpose; the worker's process imports them with their pickle."""

import os
import signal
import time
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

ENDLESS = 13.0  # the first feature of a row for which `predict` does not return


class Sleeper(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Answers a row's first feature, but never comes back from a row that begins with 13."""

    def fit(self, X: Any, y: Any) -> Self:
        self.n_features_in_ = np.asarray(X).shape[1]
        return self

    def predict(self, X: Any) -> Any:
        rows = np.asarray(X, dtype=float)
        while (rows[:, 0] == ENDLESS).any():
            time.sleep(1)
        return rows[:, 0]


BROKEN = {  # what goes wrong for a row that begins with 13 -> the code of its task's error
    "numpy": "",  # nothing: the label is a NumPy number among objects
    "object": "predict_failed",
    "exit": "predict_failed",
    "interrupt": "internal_error",
    "no text": "predict_failed",
    "surrogate": "predict_failed",
}


class Breaker(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Answers a row's first feature, and fails in a `kind` of way for a row that begins with 13."""

    def __init__(self, kind: str = "") -> None:
        self.kind = kind

    def fit(self, X: Any, y: Any) -> Self:
        self.n_features_in_ = np.asarray(X).shape[1]
        return self

    def predict(self, X: Any) -> Any:
        first = np.asarray(X)[:, 0]
        if not (first == ENDLESS).any():
            return first
        break_down(self.kind)
        labels = np.empty(len(first), dtype=object)
        labels[:] = [object() if v == ENDLESS and self.kind == "object" else v for v in first]
        return labels


class Speechless(Exception):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no text")


def break_down(kind: str) -> None:
    """Fail in one of the ways that a process survives, or in one that ends it."""
    if kind == "exit":
        raise SystemExit(3)
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "no text":
        raise Speechless
    if kind == "surrogate":
        raise ValueError("\ud800")
    if kind == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "endless":
        time.sleep(3600)
    if kind == "memory":
        exhaust_memory()


def exhaust_memory() -> None:
    """Take 2 GB, where the process may; then end as the kernel would end it."""
    taken = [bytearray(100_000_000) for _ in range(20)]
    os.kill(os.getpid(), signal.SIGKILL)
    taken.clear()


FATAL = ("segfault", "endless", "memory")  # what ends a worker or blocks it


class Killer(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Answers a row's first feature. Fails for 13, in the way that the second feature chooses."""

    def fit(self, X: Any, y: Any) -> Self:
        self.n_features_in_ = np.asarray(X).shape[1]
        return self

    def predict(self, X: Any) -> Any:
        for first, second in np.asarray(X):
            if first == ENDLESS:
                break_down(FATAL[int(second)])
        return np.asarray(X)[:, 0]
