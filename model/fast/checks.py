"""Which models and which rows a fast path covers; all others are left to scikit-learn."""

import sys
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

METHODS = ("predict", "predict_proba", "decision_function")


class Unknown(Exception):
    """The model is not one whose arithmetic is known for certain."""


class NotCovered(Exception):
    """The rows need the checks of scikit-learn, which may refuse them."""


def name_of(model: Any) -> str:
    """The full name of the model's class, which can be imported by it.

    Raises Unknown for any other class, and if somebody replaced a method of model or class.
    """
    kind = type(model)
    module = sys.modules.get(kind.__module__)
    if getattr(module, kind.__qualname__, None) is not kind:
        raise Unknown
    methods = [getattr(kind, name) for name in METHODS if hasattr(kind, name)]
    are_own = all(method.__module__.startswith("sklearn.") for method in methods)
    if not are_own or not vars(model).keys().isdisjoint(METHODS):
        raise Unknown
    return f"{kind.__module__}.{kind.__qualname__}"


def check_known(is_known: bool) -> None:
    """Raise Unknown if it is False."""
    if not is_known:
        raise Unknown


def check_width(X: Array, features: int) -> None:
    """Raise NotCovered unless `X` is float64 of shape (rows, features) with at least one row."""
    if X.dtype != np.float64 or X.ndim != 2 or X.shape[1] != features or not len(X):
        raise NotCovered


def check_finite(values: Array) -> None:
    """Raise NotCovered for NaN and infinity."""
    # The same as `all()`, which for one row takes as long as the model's arithmetic.
    if not np.logical_and.reduce(np.isfinite(values), axis=None):
        raise NotCovered


def to_float32(X: Array, allow_nan: bool = False) -> Array:
    """The rows as 32-bit floats; raises NotCovered for those that scikit-learn refuses."""
    with np.errstate(over="ignore"):
        rows = X.astype(np.float32)
    if allow_nan:
        if np.logical_or.reduce(np.isinf(rows), axis=None):
            raise NotCovered
    else:
        check_finite(rows)
    return rows
