"""The only place that calls a model's `predict`. Pure: no I/O, no clock."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import sklearn
from sklearn.base import is_classifier

from model.card import Card, Feature
from model.errors import NotFinite, PredictError, WrongShape, WrongType, describe
from model.fast.families import Compute, ComputeOne
from model.fast.pipeline import fast_for
from model.table import ToTable, table_for

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1  # that all readers of JSON take
MAX_GROWTH = 8.0  # of an estimate in one step: a single slow call is mostly the machine's fault


class Prediction(NamedTuple):
    """`y`: one label or number per row. `proba`: shape (rows, classes), None for a regressor.

    `score`: one number per row, of an outlier detector that has it.
    """

    y: list[Any]
    proba: list[list[float]] | None
    score: list[float] | None = None


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
    """The labels of a classifier in the order of predict_proba's columns.

    () for a regressor, and for a classifier that returns several labels for a row.
    """
    labels = _only(model.classes_) if is_classifier(model) else []
    return () if isinstance(labels, list) else tuple(np.asarray(labels).tolist())


def _only(outputs: Any) -> Any:
    """What a model for several outputs returns for its only one, in a list; else `outputs`."""
    return outputs[0] if isinstance(outputs, list) and len(outputs) == 1 else outputs


class _Ways(NamedTuple):
    """The ways to a model's answers; the two fast ones are None where the model has none."""

    model: Any
    to_table: ToTable
    compute: Compute | None
    compute_one: ComputeOne | None


def predictor(model: Any, card: Card) -> Predict:
    """`predict` for rows that are valid by the card, as the table that the model was fitted on."""
    ways = _ways(model, card.features, card.columns)
    predict = partial(_predict, ways)
    return partial(_predict_with_score, model, ways.to_table, predict) if card.score else predict


def _ways(model: Any, features: Sequence[Feature] = (), columns: Sequence[str] = ()) -> _Ways:
    to_table = table_for(model, features, columns)
    return _Ways(model, to_table, *fast_for(model, to_table, features, columns))


def predict(model: Any, X: Array) -> Prediction:
    """Predict all rows of `X`, shape (rows, features), in one call.

    For more than one call of a model, `predictor` prepares the model once. The model gets a table
    as the dtype of `X` suggests.
    `y` comes from `model.predict`, not from the arg max of `predict_proba`: the two may differ.
    Raises PredictError if the estimator raises, NotFinite if it returns NaN or infinity,
    WrongShape if it returns another number of rows or several values for a row, and WrongType if
    it returns what JSON and every reader of a result do not have, such as None, bytes or a date.
    """
    return _predict(_ways(model), X)


def _predict(ways: _Ways, X: Array) -> Prediction:
    try:
        return _answer_fast(ways, X) or _as_prediction(*_answer(ways, X))
    except (PredictError, KeyboardInterrupt):
        raise
    except BaseException as e:  # an estimator may exit, and a panic of Rust is no Exception
        raise PredictError(describe(e)) from e


def _answer_fast(ways: _Ways, X: Array) -> Prediction | None:
    """The answer by a fast path; None where the ordinary way must answer, or refuse."""
    if ways.compute is None:
        return None
    try:
        if ways.compute_one is not None and len(X) == 1:
            label, proba = ways.compute_one(X)
            return Prediction([label], [proba])
        return _as_prediction(*ways.compute(X))
    except MemoryError:
        raise
    except Exception:  # the rows are not covered
        return None


def _predict_with_score(model: Any, to_table: ToTable, predict: Predict, X: Array) -> Prediction:
    predicted = predict(X)
    try:
        score = np.asarray(model.decision_function(to_table(X)), dtype=np.float64)
    except KeyboardInterrupt:
        raise
    except BaseException as e:
        raise PredictError(describe(e)) from e
    if score.shape not in ((len(X),), (len(X), 1)):
        raise WrongShape(f"decision_function returned shape {score.shape} for {len(X)} rows")
    return predicted._replace(score=_finite(score.ravel()))


def _as_prediction(y: Array, proba: Array | None) -> Prediction:
    return Prediction(_labels(y), None if proba is None else _probabilities(proba))


def _answer(ways: _Ways, X: Array) -> tuple[Array, Array | None]:
    model, rows = ways.model, ways.to_table(X)
    # scikit-learn's checks of values stay on: a step may make NaN or infinity of a finite value,
    # which the next step refuses. They cost 15 to 70 us a call and below 0.1 us a row.
    with sklearn.config_context(skip_parameter_validation=True):
        y = np.asarray(model.predict(rows))
        if y.shape == (len(X), 1):  # of a model that was fitted on a `y` of one column
            y = y[:, 0]
        if y.shape != (len(X),):
            raise WrongShape(f"predict returned shape {y.shape} for {len(X)} rows")
        if not hasattr(model, "predict_proba"):
            return y, None
        proba = np.asarray(_only(model.predict_proba(rows)))
    if proba.ndim != 2 or len(proba) != len(X):
        raise WrongShape(f"predict_proba returned shape {proba.shape} for {len(X)} rows")
    return y, proba


def _labels(y: Array) -> list[Any]:
    """The labels as text, integers, floats and booleans of Python."""
    kind = y.dtype.kind
    if kind == "f":
        return _finite(y)
    if kind in "biu":
        return list(y.tolist())
    if kind == "U":
        labels = list(y.tolist())
        _check_text("".join(labels))
        return labels
    if kind in "OT":
        return [_label(value) for value in y.tolist()]
    raise WrongType(f"the model's answer is of the type {y.dtype}, which a result cannot hold")


def _label(value: Any) -> Any:
    """One label of an array of objects."""
    if isinstance(value, np.floating):
        value = float(value)
    elif isinstance(value, np.generic):
        value = value.item()
    kind = type(value)
    if kind is float and not math.isfinite(value):
        raise NotFinite
    if kind is int and not MIN_INTEGER <= value <= MAX_INTEGER:
        raise WrongType("the model's answer is an integer of more than 64 bits")
    if kind is str:
        _check_text(value)
    elif kind not in (int, float, bool):
        raise WrongType(f"the model's answer is of the type {kind.__name__}, not a label or number")
    return value


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as e:  # half of a surrogate pair
        raise WrongType("the model's answer is a text that is no Unicode") from e


def _probabilities(proba: Array) -> list[list[float]]:
    if proba.dtype.kind in "biuO":
        if any(map(np.iscomplexobj, proba.flat)):
            raise WrongType("the model's probabilities are no numbers")
        try:
            proba = proba.astype(np.float64)
        except (TypeError, ValueError) as e:
            raise WrongType("the model's probabilities are no numbers") from e
    if proba.dtype.kind != "f":
        raise WrongType(f"the model's probabilities are of the type {proba.dtype}")
    return _finite(proba)


def _finite(values: Array) -> list[Any]:
    """An array of floats as those of Python; raises NotFinite."""
    if values.dtype.itemsize > 8:  # a long double is no float of Python
        with np.errstate(over="ignore"):
            values = values.astype(np.float64)
    # The same as `all()`, which for one row takes as long as the model's arithmetic.
    if not np.logical_and.reduce(np.isfinite(values), axis=None):
        raise NotFinite
    return list(values.tolist())


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
