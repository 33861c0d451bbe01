"""The only place that calls a model's `predict`. Pure: no I/O, no clock."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import sklearn
from sklearn.base import is_classifier

from model import logistic
from model.card import Card
from model.errors import NotFinite, PredictError, WrongShape
from model.table import ToTable, table_for

MAX_GROWTH = 8.0  # of an estimate in one step: a single slow call is mostly the machine's fault


class Prediction(NamedTuple):
    """`y`: one label or number per row. `proba`: shape (rows, classes), None for a regressor."""

    y: list[Any]
    proba: list[list[float]] | None


Array = np.ndarray[Any, Any]
Predict = Callable[[Array], Prediction]


def matrix(X: Sequence[Sequence[Any]], numeric: bool) -> Array:
    """Rows as an array of shape (rows, features): float64, or object for a mixed table.

    In a mixed table a missing value, None, becomes NaN. `model/table.py` makes of it what the model
    was fitted on.
    """
    if numeric:
        return np.array(X, dtype=np.float64)
    return np.array([[np.nan if v is None else v for v in row] for row in X], dtype=object)


def classes(model: Any) -> tuple[Any, ...]:
    """The labels of a classifier in the order of predict_proba's columns; () for a regressor."""
    if not is_classifier(model):
        return ()
    # As objects, because several outputs may have unequal numbers of classes.
    return tuple(np.asarray(model.classes_, dtype=object).tolist())


def predictor(model: Any, card: Card) -> Predict:
    """`predict` for rows that are valid by the card, as the table that the model was fitted on."""
    return partial(predict, model, to_table=table_for(model, card.features))


def predict(model: Any, X: Array, to_table: ToTable | None = None) -> Prediction:
    """Predict all rows of `X`, shape (rows, features), in one call.

    `to_table` makes of `X` the table that the model was fitted on; None: as its dtype suggests.
    `y` comes from `model.predict`, not from the arg max of `predict_proba`: the two may differ.
    Raises PredictError if the estimator raises or returns something that is no label or number,
    NotFinite if it returns NaN or infinity, and WrongShape if it returns another number of rows or
    several values for a row.
    """
    try:
        if len(X) == 1 and logistic.is_known(model, X):
            return _answer_one(model, X)
        y, proba = _answer(model, X, to_table)
    except PredictError:
        raise
    except Exception as e:
        raise PredictError(f"{type(e).__name__}: {e}"[:200]) from e
    _check_finite(y, proba)
    return Prediction(_plain(y), None if proba is None else proba.tolist())


def _answer_one(model: Any, X: Array) -> Prediction:
    label, proba = logistic.answer_one(model, X)
    if not math.isfinite(proba[0]):
        raise NotFinite
    return Prediction([label], [proba])


def _answer(model: Any, X: Array, to_table: ToTable | None) -> tuple[Array, Array | None]:
    if logistic.is_known(model, X):
        return logistic.answer(model, X)
    rows = (to_table or table_for(model))(X)
    # scikit-learn's checks of values stay on: a step may make NaN or infinity of a finite value,
    # which the next step refuses. They cost 15 to 70 us a call and below 0.1 us a row.
    with sklearn.config_context(skip_parameter_validation=True):
        y = np.asarray(model.predict(rows))
        if y.shape != (len(X),):
            raise WrongShape(f"predict returned shape {y.shape} for {len(X)} rows")
        if not hasattr(model, "predict_proba"):
            return y, None
        proba = np.asarray(model.predict_proba(rows))
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


def _plain(y: Array) -> list[Any]:
    """Labels or numbers of Python's own types; raises PredictError for anything else."""
    values: list[Any] = y.tolist()
    if y.dtype.kind in "biufU":
        return values
    values = [v.item() if isinstance(v, np.generic) else v for v in values]
    for value in values:
        if type(value) not in (str, int, float, bool):
            kind = type(value).__name__
            raise PredictError(f"predict returned a value of type {kind}, not a label or a number")
        if isinstance(value, float) and not math.isfinite(value):
            raise NotFinite
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise PredictError("predict returned a whole number of more than 64 bits")
    return values


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
