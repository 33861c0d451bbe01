"""The fast paths of decision trees, random forests and extra-trees, without checks and threads.

From scikit-learn 1.9 (`ForestClassifier.predict_proba`, `ForestRegressor.predict`,
`DecisionTreeClassifier.predict_proba`): a forest adds what its trees predict in their order, and
divides by their number. `predict` takes the label of the highest probability.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from model.fast.checks import check_known, check_width, name_of, to_float32
from model.fast.joined import Fields, add_up, join, rows_for

Array = np.ndarray[Any, Any]
Values = Callable[[Array], Array]

FIELDS = Fields("left_child", "right_child", "feature", "threshold")
MAX_JOINED_ROWS = 64  # more rows are faster tree by tree
MAX_JOINED_NODES = 2_000_000  # a node takes about 80 bytes, and the joined tree is a copy

_TREES = {
    "sklearn.ensemble._forest.RandomForestClassifier": "DecisionTreeClassifier",
    "sklearn.ensemble._forest.ExtraTreesClassifier": "ExtraTreeClassifier",
    "sklearn.ensemble._forest.RandomForestRegressor": "DecisionTreeRegressor",
    "sklearn.ensemble._forest.ExtraTreesRegressor": "ExtraTreeRegressor",
}


def tree_classifier(model: Any) -> Callable[[Array], tuple[Array, Array]]:
    """The fast path of a DecisionTreeClassifier or an ExtraTreeClassifier."""
    return _classifier(model, model, _tree_of(model).predict)


def tree_regressor(model: Any) -> Callable[[Array], tuple[Array, None]]:
    """The fast path of a DecisionTreeRegressor or an ExtraTreeRegressor."""
    return _regressor(model, model, _tree_of(model).predict)


def forest_classifier(model: Any) -> Callable[[Array], tuple[Array, Array]]:
    """The fast path of a RandomForestClassifier or an ExtraTreesClassifier."""
    return _classifier(model, model.estimators_[0], _Mean(_trees_of(model)))


def forest_regressor(model: Any) -> Callable[[Array], tuple[Array, None]]:
    """The fast path of a RandomForestRegressor or an ExtraTreesRegressor."""
    return _regressor(model, model.estimators_[0], _Mean(_trees_of(model)))


def _classifier(model: Any, first: Any, values: Values) -> Callable[[Array], tuple[Array, Array]]:
    classes, to_rows = model.classes_, _to_rows(model, first)

    def compute(X: Array) -> tuple[Array, Array]:
        proba = values(to_rows(X))
        return classes.take(proba.argmax(axis=1)), proba

    return compute


def _regressor(model: Any, first: Any, values: Values) -> Callable[[Array], tuple[Array, None]]:
    to_rows = _to_rows(model, first)
    return lambda X: (values(to_rows(X))[:, 0], None)


def _to_rows(model: Any, first: Any) -> Values:
    """What checks rows for the first tree, and makes of them the 32-bit floats that trees take."""
    features = model.n_features_in_
    allow_nan = first.__sklearn_tags__().input_tags.allow_nan

    def to_rows(X: Array) -> Array:
        check_width(X, features)
        return to_float32(X, allow_nan)

    return to_rows


def _tree_of(model: Any) -> Any:
    """The fitted tree inside a decision tree for one output."""
    from sklearn.tree._tree import Tree  # only here: other models do not need its import

    tree = model.tree_
    check_known(type(tree) is Tree)
    check_known(model.n_outputs_ == tree.n_outputs == 1)
    check_known(tree.n_features == model.n_features_in_)
    check_known(tree.max_n_classes == getattr(model, "n_classes_", 1))
    return tree


def _trees_of(forest: Any) -> list[Any]:
    expected = f"sklearn.tree._classes.{_TREES[name_of(forest)]}"
    check_known({name_of(estimator) for estimator in forest.estimators_} == {expected})
    trees = [_tree_of(estimator) for estimator in forest.estimators_]
    shape = (forest.n_features_in_, getattr(forest, "n_classes_", 1))
    check_known({(tree.n_features, tree.max_n_classes) for tree in trees} == {shape})
    return trees


class _Mean:
    """Computes the mean of the trees' values, shape (rows, classes); 1 class for a regressor."""

    def __init__(self, trees: Sequence[Any]) -> None:
        self._trees, self._classes = trees, trees[0].max_n_classes
        self._may_join = sum(tree.node_count for tree in trees) <= MAX_JOINED_NODES
        self._asked = False
        self._joined: Any = None

    def __call__(self, X: Array) -> Array:
        few = self._may_join and len(X) <= MAX_JOINED_ROWS
        # A process that answers a single question does without the copy, which may take a second.
        joined, self._asked = few and self._asked, self._asked or few
        total = self._total_joined(X) if joined else self._total(X)
        total /= len(self._trees)
        return total

    def _total(self, X: Array) -> Array:
        total = np.zeros((len(X), self._classes))
        for tree in self._trees:
            total += tree.predict(X)
        return total

    def _total_joined(self, X: Array) -> Array:
        self._joined = self._joined or _join(self._trees)
        values = self._joined.predict(rows_for(X, len(self._trees)))
        return add_up(values.reshape(len(self._trees), len(X), self._classes))


def _join(trees: Sequence[Any]) -> Any:
    """One tree of scikit-learn that holds all trees."""
    from sklearn.tree._tree import Tree

    states = [tree.__getstate__() for tree in trees]
    features, classes = trees[0].n_features, trees[0].max_n_classes
    nodes = join([state["nodes"] for state in states], FIELDS, features)
    search = np.zeros((len(trees) - 1, 1, classes))
    values = np.concatenate([search, *(state["values"] for state in states)])
    joined = Tree(features + 1, np.array([classes], dtype=np.intp), 1)
    joined.__setstate__(
        {"max_depth": 0, "node_count": len(nodes), "nodes": nodes, "values": values}
    )
    return joined
