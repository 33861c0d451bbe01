"""Which rows a fast path covers; scikit-learn answers or refuses the others."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class NotCovered(Exception):
    """The rows need the checks of scikit-learn, which may refuse them."""


def check_width(X: Array, features: int) -> None:
    """Raise NotCovered unless `X` is float64 of shape (rows, features) with at least one row."""
    if X.dtype != np.float64 or X.ndim != 2 or X.shape[1] != features or not len(X):
        raise NotCovered


def check_finite(values: Array) -> None:
    """Raise NotCovered for NaN and infinity."""
    # The same as `all()`, which for one row takes as long as the model's arithmetic.
    if not np.logical_and.reduce(np.isfinite(values), axis=None):
        raise NotCovered
