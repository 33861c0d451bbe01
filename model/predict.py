"""The only place that calls scikit-learn to answer. Pure: no I/O, no clock."""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import sklearn
from sklearn.base import is_classifier

from model import logistic
from model.errors import NotFinite, PredictError, WrongShape

MAX_STEP = 8.0  # one slow call is more often the machine's fault than the model's


class Prediction(NamedTuple):
    """`y`: one label or number per row. `proba`: shape (rows, classes), None for a regressor."""

    y: list[Any]
    proba: list[list[float]] | None


Array = np.ndarray[Any, Any]
Predict = Callable[[Array], Prediction]


def matrix(X: Sequence[Sequence[Any]], numeric: bool) -> Array:
    """Rows as an array of shape (rows, features): float64, or object for a mixed table.

    In a mixed table a missing value, None, becomes NaN, as scikit-learn's estimators want it.
    """
    if numeric:
        return np.array(X, dtype=np.float64)
    return np.array([[np.nan if v is None else v for v in row] for row in X], dtype=object)


def _as_fitted(model: Any, X: Array) -> Any:
    """`X` in the form the model was fitted on: a DataFrame where it knows its columns by name."""
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        return X
    import pandas as pd  # only here: who fitted on a DataFrame has pandas

    return pd.DataFrame(X, columns=names).infer_objects()


def classes(model: Any) -> tuple[Any, ...]:
    """The labels of a classifier in the order of predict_proba's columns; else none."""
    if not is_classifier(model):
        return ()
    # As objects, because several outputs may have unequal numbers of classes.
    return tuple(np.asarray(model.classes_, dtype=object).tolist())


def predict(model: Any, X: Array) -> Prediction:
    """Predict all rows of `X`, shape (rows, features), in one call.

    `y` is what `model.predict` gives, not the arg max of `predict_proba`: the two may differ.
    Raises PredictError if the estimator raises, or answers with values that are not finite;
    WrongShape if it answers with another number of rows or several values for a row.
    """
    try:
        if len(X) == 1 and logistic.is_known(model, X):
            return _answer_one(model, X)
        y, proba = _answer(model, X)
    except PredictError:
        raise
    except Exception as e:
        raise PredictError(f"{type(e).__name__}: {e}"[:200]) from e
    _check_finite(y, proba)
    return Prediction(y.tolist(), None if proba is None else proba.tolist())


def _answer_one(model: Any, X: Array) -> Prediction:
    label, proba = logistic.answer_one(model, X)
    if not math.isfinite(proba[0]):
        raise NotFinite
    return Prediction([label], [proba])


def _answer(model: Any, X: Array) -> tuple[Array, Array | None]:
    if logistic.is_known(model, X):
        return logistic.answer(model, X)
    rows = _as_fitted(model, X)
    # Finiteness is checked below and at the contract; scikit-learn's own check costs about a
    # third of a one-row call.
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        y = np.asarray(model.predict(rows))
        if y.shape != (len(X),):
            raise WrongShape(f"predict gave shape {y.shape} for {len(X)} rows")
        if not hasattr(model, "predict_proba"):
            return y, None
        proba = np.asarray(model.predict_proba(rows))
    if proba.ndim != 2 or len(proba) != len(X):
        raise WrongShape(f"predict_proba gave shape {proba.shape} for {len(X)} rows")
    return y, proba


def _check_finite(y: Array, proba: Array | None) -> None:
    for values in (y, proba):
        if values is None or values.dtype.kind != "f":
            continue
        # As `all()`, which for one row would take as long as the model's arithmetic.
        if not np.logical_and.reduce(np.isfinite(values), axis=None):
            raise NotFinite


class Joint(NamedTuple):
    """What one call gave: the answer for so many `parts` together, or why a single part failed."""

    parts: int
    outcome: Prediction | PredictError


def predict_together(predict: Predict, X: Array, counts: Sequence[int]) -> list[Joint]:
    """Predict the rows of several askers in one call; where it fails, in calls for halves.

    `counts` has the number of rows of each part, `X` the shape (sum(counts), features). So a part
    that the model fails for gets its error, and the others their answers. In the order of parts.
    """
    try:
        return [Joint(len(counts), predict(X))]
    except PredictError as e:
        if len(counts) == 1:
            return [Joint(1, e)]
    half = len(counts) // 2
    rows = sum(counts[:half])
    return [
        *predict_together(predict, X[:rows], counts[:half]),
        *predict_together(predict, X[rows:], counts[half:]),
    ]


def split(values: list[Any], counts: Sequence[int]) -> list[list[Any]]:
    """The values of each part, which has `counts` rows."""
    if len(values) == len(counts):  # a row each, as most have: a quarter of the cost of slices
        return [[value] for value in values]
    ends = accumulate(counts)
    return [values[end - count : end] for end, count in zip(ends, counts, strict=True)]


class CostEstimate:
    """Guesses the seconds of a call from the last one; a size is in rows, or in bytes."""

    def __init__(self) -> None:
        self._size, self._seconds = 1, math.inf

    def guess(self, size: int) -> float:
        """The seconds of a call of that size; infinite before the first."""
        return self._seconds * max(1.0, size / self._size)

    def observe(self, size: int, seconds: float) -> None:
        """Keep what a call cost."""
        self._seconds = min(seconds, MAX_STEP * self.guess(size))
        self._size = max(1, size)
