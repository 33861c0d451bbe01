"""The fast paths of MLPClassifier and MLPRegressor: one pass through the network, without checks.

From scikit-learn 1.9 (`BaseMultilayerPerceptron._forward_pass_fast`, `MLPClassifier._predict` and
`predict_proba`, `MLPRegressor._predict`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from model.fast.checks import check_finite, check_known, check_width

Array = np.ndarray[Any, Any]


def classifier(model: Any) -> Callable[[Array], tuple[Array, Array]]:
    """The fast path of an MLPClassifier."""
    check_known(not model._label_binarizer.y_type_.startswith("multilabel"))
    output_of, label = _output_for(model), model._label_binarizer.inverse_transform

    def compute(X: Array) -> tuple[Array, Array]:
        output = output_of(X)
        if output.shape[1] > 1:
            return label(output), output
        positive = output.ravel()
        return label(positive), np.vstack([1 - positive, positive]).T

    return compute


def regressor(model: Any) -> Callable[[Array], tuple[Array, None]]:
    """The fast path of an MLPRegressor for one output."""
    check_known(model.n_outputs_ == 1)
    output_of = _output_for(model)
    return lambda X: (output_of(X).ravel(), None)


def _output_for(model: Any) -> Callable[[Array], Array]:
    features, weights = model.n_features_in_, [*model.coefs_, *model.intercepts_]
    check_known(all(type(each) is np.ndarray for each in weights))

    def output_of(X: Array) -> Array:
        check_width(X, features)
        check_finite(X)
        return np.asarray(model._forward_pass_fast(X, check_input=False))

    return output_of
