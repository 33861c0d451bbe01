"""Which models have a fast path: their own arithmetic, without scikit-learn's checks, same bits.

A fast path is taken for what a test compares with scikit-learn bit for bit, and for nothing else.
"""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import sklearn

from model.fast import logistic

Array = np.ndarray[Any, Any]
Compute = Callable[[Array], tuple[Array, Array | None]]
ComputeOne = Callable[[Array], tuple[Any, list[float]]]

Built = TypeVar("Built")

# Other versions may compute in another order. The tests prove these.
PROVED = ("1.9.1",)
METHODS = ("predict", "predict_proba", "decision_function")

_BUILDERS: dict[str, Callable[[Any], Compute | None]] = {
    "sklearn.linear_model._logistic.LogisticRegression": logistic.compute_for,
}
_BUILDERS_OF_ONE: dict[str, Callable[[Any], ComputeOne | None]] = {
    "sklearn.linear_model._logistic.LogisticRegression": logistic.compute_one_for,
}


def compute_for(model: Any) -> Compute | None:
    """What computes the answers of a fitted model by its fast path; None if it has none.

    It takes rows as float64 of shape (rows, features). It returns the labels or numbers that
    `model.predict` returns, shape (rows,), and the probabilities that `model.predict_proba`
    returns, shape (rows, classes), None for a model without. It may raise for rows that it does
    not cover, such as rows for which scikit-learn raises; then `model.predict` must be asked. Ask
    once for a model: it may copy the model's numbers, and does not notice a later change of them.
    """
    return _built(_BUILDERS, model)


def compute_one_for(model: Any) -> ComputeOne | None:
    """The same for a single row, where Python's arithmetic is faster than that of arrays."""
    return _built(_BUILDERS_OF_ONE, model)


def _built(builders: dict[str, Callable[[Any], Built | None]], model: Any) -> Built | None:
    if sklearn.__version__ not in PROVED:
        return None
    try:
        build = builders.get(_name_of(type(model)))
        return None if build is None or _is_changed(model) else build(model)
    except Exception:  # a model may have been fitted by other code, or half
        return None


def _name_of(kind: type) -> str:
    """The full name of a class that can be imported by it; empty for any other."""
    module = sys.modules.get(kind.__module__)
    is_there = getattr(module, kind.__qualname__, None) is kind
    return f"{kind.__module__}.{kind.__qualname__}" if is_there else ""


def _is_changed(model: Any) -> bool:
    """Whether somebody replaced a method of the model or of its class."""
    if not vars(model).keys().isdisjoint(METHODS):
        return True
    found = [getattr(type(model), name) for name in METHODS if hasattr(type(model), name)]
    return not all(method.__module__.startswith("sklearn.") for method in found)
