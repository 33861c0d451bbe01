"""Estimators that misbehave on purpose; the worker's process imports them with their pickle."""

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
