"""The only place that calls scikit-learn to answer. Pure: no I/O, no clock."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import sklearn


class PredictError(Exception):
    """The estimator failed, or gave an answer that cannot be used."""


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


def predict(model: Any, X: np.ndarray[Any, Any]) -> Prediction:
    """Predict all rows of `X`, shape (rows, features), in one call.

    `y` is what `model.predict` gives, not the arg max of `predict_proba`: the two may differ.
    Raises PredictError if the estimator raises, or answers with another number of rows or
    with values that are not finite.
    """
    rows = _as_fitted(model, X)
    has_proba = hasattr(model, "predict_proba")
    try:
        # Finiteness is checked below and at the contract; scikit-learn's own check costs
        # about a third of a one-row call.
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
            y = np.asarray(model.predict(rows))
            proba = np.asarray(model.predict_proba(rows)) if has_proba else None
    except Exception as e:
        raise PredictError(f"{type(e).__name__}: {e}"[:200]) from e
    _check(y, proba, len(X))
    return Prediction(y.tolist(), None if proba is None else proba.tolist())


def _check(y: np.ndarray[Any, Any], proba: np.ndarray[Any, Any] | None, rows: int) -> None:
    if y.shape != (rows,):
        raise PredictError(f"predict gave shape {y.shape} for {rows} rows")
    if proba is not None and (proba.ndim != 2 or len(proba) != rows):
        raise PredictError(f"predict_proba gave shape {proba.shape} for {rows} rows")
    for values in (y, proba):
        if values is not None and values.dtype.kind == "f" and not np.isfinite(values).all():
            raise PredictError("the model's answer is not finite")
