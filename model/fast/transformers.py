"""Steps that make numbers of numbers: imputer and scalers, without scikit-learn's checks.

The formulas come from scikit-learn 1.9 (`transform` of each class) and are in its order. Tests
compare the results to the last bit, and the order of values in memory, on which sums depend.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import sklearn

from model.fast.checks import NotCovered, Unknown, check_width, name_of
from model.fast.families import PROVED

Array = np.ndarray[Any, Any]
Step = Callable[[Array], Array]  # float64 of shape (rows, columns), to the same


def known_name(step: Any) -> str:
    """The full name of the class of a step that is known for certain; empty for any other.

    It comes from a version of scikit-learn that the tests prove, nobody replaced its methods, and
    it returns arrays.
    """
    try:
        name = name_of(step)
    except (Unknown, TypeError):
        return ""
    transform = getattr(type(step), "transform", None)
    module = getattr(transform, "__module__", "sklearn.")
    is_own = module.startswith("sklearn.") and "transform" not in vars(step)
    returns_array = getattr(step, "_sklearn_output_config", {}).get("transform") in (
        None,
        "default",
    )
    return name if sklearn.__version__ in PROVED and is_own and returns_array else ""


def step_for(step: Any) -> Step | None:
    """What computes `step.transform` of float64 arrays; None if it is not known for certain."""
    build = _BUILDERS.get(known_name(step))
    arithmetic = None if build is None else build(step)
    if arithmetic is None:
        return None
    compute, width = arithmetic, step.n_features_in_

    def transform(X: Array) -> Array:
        check_width(X, width)
        if np.logical_or.reduce(np.isinf(X), axis=None):  # a step before it may have made one
            raise NotCovered
        return compute(X)

    return transform


def _imputer(step: Any) -> Step | None:
    fills = step.statistics_
    if not _takes_nan(step) or step._fit_dtype != np.float64 or fills.dtype.kind != "f":
        return None
    if np.isnan(fills).any() and not step.keep_empty_features:  # columns that scikit-learn drops
        return None
    noted = step.indicator_ and step.indicator_.features_
    if step.indicator_ is not None and step.indicator_.features != "missing-only":
        return None

    def impute(X: Array) -> Array:
        missing = np.isnan(X)
        if np.logical_or.reduce(missing, axis=None):
            X = X.copy(order="K")
            np.copyto(X, fills, where=missing)
        return X if noted is None else np.hstack((X, missing[:, noted]))

    return impute


def _takes_nan(step: Any) -> bool:
    return isinstance(step.missing_values, float) and step.missing_values != step.missing_values


def _standard_scaler(step: Any) -> Step | None:
    mean = step.mean_ if step.with_mean else None
    return _affine(minus=mean, by=step.scale_ if step.with_std else None)


def _robust_scaler(step: Any) -> Step | None:
    center = step.center_ if step.with_centering else None
    return _affine(minus=center, by=step.scale_ if step.with_scaling else None)


def _affine(minus: Any, by: Any) -> Step | None:
    if any(each is not None and each.dtype != np.float64 for each in (minus, by)):
        return None

    def scale(X: Array) -> Array:
        if minus is not None:
            X = X - minus
        return X if by is None else X / by

    return scale


def _min_max_scaler(step: Any) -> Step | None:
    factor, plus = step.scale_, step.min_
    if factor.dtype != np.float64 or plus.dtype != np.float64:
        return None
    low, high = step.feature_range

    def scale(X: Array) -> Array:
        X = X * factor
        X += plus
        return np.clip(X, low, high) if step.clip else X

    return scale


def _max_abs_scaler(step: Any) -> Step | None:
    return None if getattr(step, "clip", False) else _affine(minus=None, by=step.scale_)


_IMPUTER = "sklearn.impute._base.SimpleImputer"
_BUILDERS: dict[str, Callable[[Any], Step | None]] = {
    _IMPUTER: _imputer,
    "sklearn.preprocessing._data.StandardScaler": _standard_scaler,
    "sklearn.preprocessing._data.RobustScaler": _robust_scaler,
    "sklearn.preprocessing._data.MinMaxScaler": _min_max_scaler,
    "sklearn.preprocessing._data.MaxAbsScaler": _max_abs_scaler,
}


def is_imputer(step: Any) -> bool:
    """Whether the step is a SimpleImputer as scikit-learn has it."""
    return known_name(step) == _IMPUTER


def fills_of(imputer: Any) -> tuple[Any, ...] | None:
    """What a SimpleImputer puts in place of NaN in each column; None if that is not known."""
    if not _takes_nan(imputer) or imputer.indicator_ is not None:
        return None
    fills = tuple(imputer.statistics_.tolist())
    return None if any(fill is None or fill != fill for fill in fills) else fills
