"""The only place that calls a model's `predict`. Pure: no I/O, no clock."""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import sklearn
from sklearn.base import is_classifier

from model import logistic
from model.errors import NotFinite, PredictError, WrongShape, describe

MAX_GROWTH = 8.0  # of an estimate in one step: a single slow call is mostly the machine's fault


class Prediction(NamedTuple):
    """`y`: one label or number per row. `proba`: shape (rows, classes), None for a regressor."""

    y: list[Any]
    proba: list[list[float]] | None


Array = np.ndarray[Any, Any]
Predict = Callable[[Array], Prediction]


def matrix(X: Sequence[Sequence[Any]], numeric: bool) -> Array:
    """Rows as an array of shape (rows, features): float64, or object for a mixed table.

    In a mixed table a missing value, None, becomes NaN, as scikit-learn's estimators expect.
    """
    if numeric:
        return np.array(X, dtype=np.float64)
    return np.array([[np.nan if v is None else v for v in row] for row in X], dtype=object)


def _as_fitted(model: Any, X: Array) -> Any:
    """`X` as a DataFrame if the model was fitted on one, else as it is."""
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        return X
    import pandas as pd  # only here: a model fitted on a DataFrame was made with pandas

    return pd.DataFrame(X, columns=names).infer_objects()


def classes(model: Any) -> tuple[Any, ...]:
    """The labels of a classifier in the order of predict_proba's columns; () for a regressor."""
    if not is_classifier(model):
        return ()
    # As objects, because several outputs may have unequal numbers of classes.
    return tuple(np.asarray(model.classes_, dtype=object).tolist())


def predict(model: Any, X: Array) -> Prediction:
    """Predict all rows of `X`, shape (rows, features), in one call.

    `y` comes from `model.predict`, not from the arg max of `predict_proba`: the two may differ.
    Raises PredictError if the estimator raises, NotFinite if it returns NaN or infinity, and
    WrongShape if it returns another number of rows or several values for a row.
    """
    try:
        if len(X) == 1 and logistic.is_known(model, X):
            return _answer_one(model, X)
        y, proba = _answer(model, X)
    except (PredictError, KeyboardInterrupt):
        raise
    except BaseException as e:  # an estimator may exit, and a panic of Rust is no Exception
        raise PredictError(describe(e)) from e
    _check_finite(y, proba)
    return Prediction(_to_list(y), None if proba is None else proba.tolist())


def _to_list(y: Array) -> list[Any]:
    """Labels as Python's types; `tolist` leaves NumPy's scalars in an array of objects."""
    labels: list[Any] = y.tolist()
    if y.dtype != object:
        return labels
    return [label.item() if isinstance(label, np.generic) else label for label in labels]


def _answer_one(model: Any, X: Array) -> Prediction:
    label, proba = logistic.answer_one(model, X)
    if not math.isfinite(proba[0]):
        raise NotFinite
    return Prediction([label], [proba])


def _answer(model: Any, X: Array) -> tuple[Array, Array | None]:
    if logistic.is_known(model, X):
        return logistic.answer(model, X)
    rows = _as_fitted(model, X)
    # model/rows.py has checked the rows, and the output is checked below; scikit-learn's own
    # check costs about a third of a one-row call.
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        y = np.asarray(model.predict(rows))
        if y.shape != (len(X),):
            raise WrongShape(f"predict returned shape {y.shape} for {len(X)} rows")
        if not hasattr(model, "predict_proba"):
            return y, None
        proba = np.asarray(model.predict_proba(rows))
    if proba.dtype == object:
        proba = proba.astype(np.float64)
    if proba.ndim != 2 or len(proba) != len(X):
        raise WrongShape(f"predict_proba returned shape {proba.shape} for {len(X)} rows")
    return y, proba


def _check_finite(y: Array, proba: Array | None) -> None:
    for values in (y, proba):
        if values is None or values.dtype.kind != "f":
            continue
        # The same as `all()`, which for one row takes as long as the model's arithmetic.
        if not np.logical_and.reduce(np.isfinite(values), axis=None):
            raise NotFinite


class Joint(NamedTuple):
    """The outcome of one call for `parts` consecutive parts; an error is about a single part."""

    parts: int
    outcome: Prediction | PredictError


def predict_together(predict: Predict, X: Array, counts: Sequence[int]) -> list[Joint]:
    """Predict the rows of several callers in one call. If it fails, halve them and try each half.

    Part n has `counts[n]` rows, so `X` has shape (sum(counts), features). A part that the model
    fails for gets its error, and all others get their predictions. In the order of the parts.
    """
    if not counts:
        return []
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
    """The values of each part; part n has `counts[n]` rows, at least one."""
    if len(values) == len(counts):  # one row each, the usual case: a quarter of the cost of slices
        return [[value] for value in values]
    ends = accumulate(counts)
    return [values[end - count : end] for end, count in zip(ends, counts, strict=True)]


class CostEstimate:
    """Estimates the seconds of the next call from the last one. A size is in rows or in bytes."""

    def __init__(self) -> None:
        self._size, self._seconds = 1, math.inf

    def guess(self, size: int) -> float:
        """The estimated seconds of a call of that size; infinite before the first call."""
        return self._seconds * max(1.0, size / self._size)

    def observe(self, size: int, seconds: float) -> None:
        """Record what a call cost."""
        self._seconds = min(seconds, MAX_GROWTH * self.guess(size))
        self._size = max(1, size)
