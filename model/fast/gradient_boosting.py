"""The fast paths of GradientBoostingClassifier and GradientBoostingRegressor.

From scikit-learn 1.9 (`BaseGradientBoosting._raw_predict`): the trees add to a first value, which
is the same for every row. scikit-learn's compiled loop over the trees is called here, too, once for
label and probabilities, and without the checks around it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from model.fast.checks import check_known, check_width, name_of, to_float32

Array = np.ndarray[Any, Any]


def classifier(model: Any) -> Callable[[Array], tuple[Array, Array]]:
    """The fast path of a GradientBoostingClassifier."""
    scores_of, classes, loss = _scores_for(model), model.classes_, model._loss

    def compute(X: Array) -> tuple[Array, Array]:
        scores = scores_of(X)
        if scores.shape[1] == 1:
            scores = scores.ravel()
            return classes[(scores >= 0).astype(int)], loss.predict_proba(scores)
        return classes[scores.argmax(axis=1)], loss.predict_proba(scores)

    return compute


def regressor(model: Any) -> Callable[[Array], tuple[Array, None]]:
    """The fast path of a GradientBoostingRegressor."""
    scores_of = _scores_for(model)
    return lambda X: (scores_of(X).ravel(), None)


def _scores_for(model: Any) -> Callable[[Array], Array]:
    """What adds up the trees, shape (rows, trees of an iteration)."""
    from sklearn.ensemble._gradient_boosting import predict_stages

    _check_trees(model)
    features, first = model.n_features_in_, _first(model)
    trees, rate = model.estimators_, model.learning_rate

    def scores_of(X: Array) -> Array:
        check_width(X, features)
        scores = np.empty((len(X), first.size))
        scores[:] = first
        predict_stages(trees, to_float32(X), rate, scores)
        return scores

    return scores_of


def _check_trees(model: Any) -> None:
    trees = model.estimators_
    check_known(trees.shape[1] == model.n_trees_per_iteration_ and len(trees) > 0)
    expected = {"sklearn.tree._classes.DecisionTreeRegressor"}
    check_known({name_of(tree) for tree in trees.flat} == expected)
    shapes = {(tree.tree_.n_features, tree.tree_.n_outputs) for tree in trees.flat}
    check_known(shapes == {(model.n_features_in_, 1)})


def _first(model: Any) -> Array:
    """The value that the trees add to."""
    if isinstance(model.init_, str):
        check_known(model.init_ == "zero")
        return np.zeros(model.n_trees_per_iteration_)
    name = name_of(model.init_)
    is_prior = name == "sklearn.dummy.DummyClassifier" and model.init_.strategy == "prior"
    check_known(is_prior or name == "sklearn.dummy.DummyRegressor")
    row = np.zeros((1, model.n_features_in_), dtype=np.float32)
    return np.asarray(model._raw_predict_init(row)[0])
