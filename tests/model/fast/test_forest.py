"""Trees and forests answer by their fast path as scikit-learn does, to the last bit."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)

from model.fast import forest
from model.fast.checks import NotCovered
from model.fast.families import compute_for
from tests.model.fast.bits import (
    HOLED,
    NUMBERS,
    TARGETS,
    WEIGHTS,
    X,
    assert_same_bits,
    fast,
    rows_of,
)

Forest, Extra = RandomForestClassifier, ExtraTreesClassifier
CLASSES, TEXTS = TARGETS["ten"], TARGETS["texts"]

MODELS: dict[str, Any] = {
    **{f"forest of {name}": Forest(9, random_state=0).fit(X, y) for name, y in TARGETS.items()},
    **{f"extra-trees of {name}": Extra(9, random_state=0).fit(X, y) for name, y in TARGETS.items()},
    **{f"tree of {name}": DecisionTreeClassifier().fit(X, y) for name, y in TARGETS.items()},
    "extra-tree": ExtraTreeClassifier(random_state=0).fit(X, TEXTS),
    "tree of numbers": DecisionTreeRegressor().fit(X, NUMBERS),
    "extra-tree of numbers": ExtraTreeRegressor(random_state=0).fit(X, NUMBERS),
    "forest of numbers": RandomForestRegressor(12, random_state=0).fit(X, NUMBERS),
    "extra-trees of numbers": ExtraTreesRegressor(12, random_state=0).fit(X, NUMBERS),
    "forest of whole numbers": RandomForestRegressor(9, random_state=0).fit(X, CLASSES),
    "one tree": Forest(1, random_state=0).fit(X, CLASSES),
    "two trees": Forest(2, random_state=0).fit(X, CLASSES),
    "many trees": Forest(70, max_depth=3, random_state=0).fit(X, CLASSES),
    "many trees of numbers": RandomForestRegressor(70, random_state=0).fit(X, NUMBERS),
    "stumps": Forest(9, max_depth=1, random_state=0).fit(X, TEXTS),
    "leaves without a split": Forest(9, max_depth=4, min_samples_leaf=80).fit(X, TEXTS),
    "one class": Forest(5).fit(X, np.full(len(X), "only")),
    "one number": RandomForestRegressor(5).fit(X, np.full(len(X), -0.0)),
    "weights": Forest(9, random_state=0).fit(X, TEXTS, WEIGHTS),
    "weights of classes": Forest(9, class_weight="balanced_subsample").fit(X, TEXTS),
    "monotonic": Forest(9, monotonic_cst=[1, -1, 0, 0, 0]).fit(X, TARGETS["two"]),
    "entropy": Extra(9, criterion="entropy", bootstrap=True, max_samples=0.5).fit(X, TEXTS),
    "absolute error": RandomForestRegressor(4, criterion="absolute_error").fit(X, NUMBERS),
    "warm start": Forest(4, warm_start=True).fit(X, TEXTS).set_params(n_estimators=7).fit(X, TEXTS),
    "a column as target": Forest(4, random_state=0).fit(X, TARGETS["two"]),
}  # fmt: skip
HOLES: dict[str, Any] = {
    "forest": Forest(9, random_state=0).fit(HOLED, TEXTS),
    "extra-trees": Extra(9, random_state=0).fit(HOLED, TEXTS),
    "forest of numbers": RandomForestRegressor(9, random_state=0).fit(HOLED, NUMBERS),
    "tree": DecisionTreeClassifier().fit(HOLED, TEXTS),
    "fitted without holes": Forest(9, random_state=0).fit(X, TEXTS),
}


@cache
def rows(model: Any, *more: float) -> st.SearchStrategy[Any]:
    trees = getattr(model, "estimators_", [model])
    return rows_of((value for tree in trees for value in tree.tree_.threshold), *more)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
@settings(max_examples=15)
@given(data=st.data())
def test_the_answers_are_those_of_scikit_learn(model: Any, data: st.DataObject) -> None:
    assert_same_bits(model, data.draw(rows(model)))


@pytest.mark.parametrize("model", HOLES.values(), ids=HOLES.keys())
@settings(max_examples=25)
@given(data=st.data())
def test_a_missing_value_takes_the_way_that_scikit_learn_gives_it(
    model: Any, data: st.DataObject
) -> None:
    assert_same_bits(model, data.draw(rows(model, *[np.nan] * 40)))


@pytest.mark.parametrize("value", [np.inf, -np.inf, 3.4028236e38, 1e300])
@pytest.mark.parametrize("model", [MODELS["tree of texts"], MODELS["forest of numbers"]])
def test_what_no_32_bit_float_holds_is_not_covered(model: Any, value: float) -> None:
    refused = X[:2].copy()
    refused[1, 2] = value
    with pytest.raises(NotCovered):
        fast(model)(refused)
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="too large for dtype"):
        model.predict(refused)


def test_a_missing_value_that_a_tree_refuses_is_not_covered() -> None:
    model = ExtraTreeClassifier(splitter="best").fit(X, TEXTS)
    with pytest.raises(NotCovered):
        fast(model)(HOLED[:9])
    with pytest.raises(ValueError, match="contains NaN"):
        model.predict(HOLED[:9])


@pytest.mark.parametrize("other", [X[:, :4], X[:0], X[0], X.astype(np.float32), X.astype(object)])
def test_rows_of_another_form_are_not_covered(other: Any) -> None:
    """A tree reads beyond the end of a row that is too short."""
    for model in (MODELS["forest of texts"], MODELS["tree of numbers"]):
        with pytest.raises(NotCovered):
            fast(model)(other)


def test_several_outputs_have_no_fast_path() -> None:
    both = np.column_stack([NUMBERS, NUMBERS])
    for kind in (DecisionTreeRegressor, RandomForestRegressor, ExtraTreesRegressor):
        assert compute_for(kind().fit(X, both)) is None
    assert compute_for(Forest(3).fit(X, both.astype(int))) is None


def test_a_forest_with_a_tree_of_another_kind_has_no_fast_path() -> None:
    class Own(DecisionTreeClassifier):  # type: ignore[misc]
        pass

    model = Forest(3).fit(X, TEXTS)
    model.estimators_[1] = Own().fit(X, TARGETS["ten"])
    assert compute_for(model) is None
    model.estimators_[1] = DecisionTreeClassifier().fit(X, TARGETS["ten"])
    assert compute_for(model) is None
    model.estimators_[1] = DecisionTreeClassifier().fit(X[:, :4], model.estimators_[0].predict(X))
    assert compute_for(model) is None
    model.estimators_[1] = model.estimators_[0]
    assert compute_for(model) is not None
    model.estimators_[1].predict_proba = lambda rows, check_input=True: rows
    assert compute_for(model) is None


def test_a_forest_that_is_not_fitted_has_no_fast_path() -> None:
    assert compute_for(Forest()) is None
    assert compute_for(DecisionTreeClassifier()) is None


def test_the_trees_are_joined_for_the_second_question_unless_they_are_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = MODELS["many trees"]
    calls = []
    monkeypatch.setattr(forest, "_join", lambda trees: calls.append(len(trees)))
    asked = forest._Mean([tree.tree_ for tree in model.estimators_])
    row = X[:1].astype(np.float32)
    asked(row)
    assert calls == []
    with pytest.raises(AttributeError):
        asked(row)
    assert calls == [70]
    monkeypatch.setattr(forest, "MAX_JOINED_NODES", 100)
    large = forest._Mean([tree.tree_ for tree in model.estimators_])
    assert large(row).tolist() == large(row).tolist() == model.predict_proba(X[:1]).tolist()
    assert calls == [70]


@pytest.mark.parametrize("trees", range(1, 20))
def test_any_number_of_trees_can_be_joined(trees: int) -> None:
    model = RandomForestRegressor(trees, max_depth=2, random_state=trees).fit(X, NUMBERS)
    for some in (X[:1], X[:1], X[:2], X):
        assert_same_bits(model, some)
