"""The fast paths of HistGradientBoostingClassifier and HistGradientBoostingRegressor.

From scikit-learn 1.9 (`BaseHistGradientBoosting._raw_predict`): the trees add to a first value in
their order. scikit-learn's compiled function follows them here, too, once for label and
probabilities.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

from model.fast.checks import NotCovered, check_known, check_width
from model.fast.joined import Fields, add_up, join, rows_for

Array = np.ndarray[Any, Any]

FIELDS = Fields("left", "right", "feature_idx", "num_threshold")
MAX_JOINED_ROWS = 64  # more rows are faster tree by tree


def classifier(model: Any) -> Callable[[Array], tuple[Array, Array]]:
    """The fast path of a HistGradientBoostingClassifier."""
    scores_of, classes, loss = _scores_for(model), model.classes_, model._loss

    def compute(X: Array) -> tuple[Array, Array]:
        scores = scores_of(X)
        if scores.shape[1] == 1:
            return classes[(scores.ravel() > 0).astype(int)], loss.predict_proba(scores)
        return classes[scores.argmax(axis=1)], loss.predict_proba(scores)

    return compute


def regressor(model: Any) -> Callable[[Array], tuple[Array, None]]:
    """The fast path of a HistGradientBoostingRegressor."""
    scores_of, link = _scores_for(model), model._loss.link
    return lambda X: (link.inverse(scores_of(X).ravel()), None)


class _Trees(NamedTuple):
    """Trees as scikit-learn's function takes them; `left` has the categories that go left."""

    nodes: Array
    left: Array


def _scores_for(model: Any) -> Callable[[Array], Array]:
    """What adds up the trees, shape (rows, trees of an iteration), column by column in memory."""
    encode, features = _encoder_for(model), model.n_features_in_
    add = _Sum(model)

    def scores_of(X: Array) -> Array:
        check_width(X, features)
        return add(encode(X)).T

    return scores_of


class _Sum:
    """Computes the first value plus those of all trees, shape (trees of an iteration, rows)."""

    def __init__(self, model: Any) -> None:
        from sklearn.ensemble._hist_gradient_boosting._predictor import _predict_from_raw_data

        self._predict = _predict_from_raw_data
        self._known, self._places = model._bin_mapper.make_known_categories_bitsets()
        self._width = model.n_trees_per_iteration_
        first = model._baseline_prediction
        check_known(first.dtype == np.float64 and first.shape == (1, self._width))
        self._first = 0.0 + first.T
        self._trees = _trees_of(model)
        self._joined = _join(self._trees, model.n_features_in_)

    def __call__(self, X: Array) -> Array:
        return self._few(X) if len(X) <= MAX_JOINED_ROWS else self._many(X)

    def _few(self, X: Array) -> Array:
        trees = len(self._trees)
        values = np.empty((self._width + trees, len(X)))
        values[: self._width] = self._first
        self._write(self._joined, rows_for(X, trees), 1, values[self._width :].reshape(-1))
        return add_up(values.reshape(-1, self._width, len(X)))

    def _many(self, X: Array) -> Array:
        total = np.repeat(self._first, len(X), axis=1)
        values, threads = np.empty(len(X)), _openmp_effective_n_threads()
        for n, tree in enumerate(self._trees):
            self._write(tree, X, threads, values)
            total[n % self._width] += values
        return total

    def _write(self, trees: _Trees, X: Array, threads: int, values: Array) -> None:
        self._predict(trees.nodes, X, trees.left, self._known, self._places, threads, values)


def _trees_of(model: Any) -> list[_Trees]:
    """The trees, iteration by iteration."""
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

    widths = {len(iteration) for iteration in model._predictors}
    check_known(widths == {model.n_trees_per_iteration_})
    found = [tree for iteration in model._predictors for tree in iteration]
    check_known({type(tree) for tree in found} == {TreePredictor})
    return [_Trees(tree.nodes, tree.raw_left_cat_bitsets) for tree in found]


def _join(trees: list[_Trees], features: int) -> _Trees:
    nodes = join([tree.nodes for tree in trees], FIELDS, features)
    lengths = [len(tree.nodes) for tree in trees]
    earlier = np.cumsum([0, *(len(tree.left) for tree in trees[:-1])])
    nodes["bitset_idx"][len(trees) - 1 :] += np.repeat(earlier, lengths).astype(np.uint32)
    return _Trees(nodes, np.concatenate([tree.left for tree in trees]))


def _encoder_for(model: Any) -> Callable[[Array], Array]:
    """What replaces categories by their numbers and moves them to the front, as at fit."""
    if model._preprocessor is None:
        return lambda X: X
    categorical = model.is_categorical_
    encoder = model._preprocessor.named_transformers_["encoder"]
    check_known(all(known.dtype.kind in "biuf" for known in encoder.categories_))
    floats = [known.astype(np.float64) for known in encoder.categories_]
    categories = [known[known == known] for known in floats]

    def encode(X: Array) -> Array:
        columns = X[:, categorical]
        if np.isinf(columns).any():  # scikit-learn refuses it as a category
            raise NotCovered
        codes = [_codes(known, columns[:, n]) for n, known in enumerate(categories)]
        return np.column_stack([*codes, X[:, ~categorical]])

    return encode


def _codes(known: Array, values: Array) -> Array:
    """The number of each value among the known ones, which are sorted; NaN for any other."""
    if not len(known):
        return np.full(len(values), np.nan)
    places = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[places] == values, places, np.nan)
