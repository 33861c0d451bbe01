"""The fast paths of linear models without probabilities.

From scikit-learn 1.9 (`LinearModel._decision_function`, `LinearClassifierMixin.decision_function`
and `predict`). The last bit of a sum depends on the layout of the rows in memory: the one that
scikit-learn has after its checks must be given.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from model.fast.checks import check_finite, check_known, check_width

Array = np.ndarray[Any, Any]


def regressor(model: Any) -> Callable[[Array], tuple[Array, None]]:
    """The fast path of a linear regressor for one output."""
    scores_of = scores_for(model)

    def compute(X: Array) -> tuple[Array, None]:
        scores = scores_of(X)
        return (scores if scores.ndim == 1 else scores[:, 0]), None

    check_known(model.coef_.ndim == 1 or len(model.coef_) == 1)
    return compute


def classifier(model: Any) -> Callable[[Array], tuple[Array, None]]:
    """The fast path of a linear classifier that has no probabilities."""
    check_known(not hasattr(model, "predict_proba") and isinstance(model.classes_, np.ndarray))
    binarizer = getattr(model, "_label_binarizer", None)
    check_known(binarizer is None or not binarizer.y_type_.startswith("multilabel"))
    scores_of, classes = scores_for(model), model.classes_
    return lambda X: (labels(scores_of(X), classes), None)


def scores_for(model: Any) -> Callable[[Array], Array]:
    """What computes the model's scores; shape (rows, 1) or (rows,) for two classes."""
    check_known(type(model.coef_) is np.ndarray)  # it may be sparse
    coef, intercept, features = model.coef_.T, model.intercept_, model.n_features_in_

    def scores_of(X: Array) -> Array:
        check_width(X, features)
        scores: Array = X @ coef + intercept
        # A NaN or an infinity in a row makes all its scores NaN or infinite.
        check_finite(scores)
        return scores

    return scores_of


def labels(scores: Array, classes: Any) -> Array:
    """The labels of the highest scores, and for two classes that of the score's sign."""
    if scores.ndim == 1 or scores.shape[1] == 1:
        return np.asarray(classes.take((scores.ravel() > 0).astype(np.intp)))
    return np.asarray(classes.take(scores.argmax(axis=1)))
