"""The only place that calls scikit-learn to answer. Pure: no I/O, no clock."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import sklearn
from sklearn.base import is_classifier

from model import logistic
from model.errors import NotFinite, PredictError, WrongShape


class Prediction(NamedTuple):
    """`y`: one label or number per row. `proba`: shape (rows, classes), None for a regressor."""

    y: list[Any]
    proba: list[list[float]] | None


def matrix(X: Sequence[Sequence[Any]], numeric: bool) -> np.ndarray[Any, Any]:
    """Rows as an array of shape (rows, features): float64, or object for a mixed table.

    In a mixed table a missing value, None, becomes NaN, as scikit-learn's estimators want it.
    """
    if numeric:
        return np.array(X, dtype=np.float64)
    return np.array([[np.nan if v is None else v for v in row] for row in X], dtype=object)


def _as_fitted(model: Any, X: np.ndarray[Any, Any]) -> Any:
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


def predict(model: Any, X: np.ndarray[Any, Any]) -> Prediction:
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


def _answer_one(model: Any, X: np.ndarray[Any, Any]) -> Prediction:
    label, proba = logistic.answer_one(model, X)
    if not math.isfinite(proba[0]):
        raise NotFinite
    return Prediction([label], [proba])


def _answer(
    model: Any, X: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
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


def _check_finite(y: np.ndarray[Any, Any], proba: np.ndarray[Any, Any] | None) -> None:
    for values in (y, proba):
        if values is None or values.dtype.kind != "f":
            continue
        # As `all()`, which for one row would take as long as the model's arithmetic.
        if not np.logical_and.reduce(np.isfinite(values), axis=None):
            raise NotFinite
