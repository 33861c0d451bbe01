"""Gradient boosting answers by its fast path as scikit-learn does, to the last bit."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from model.fast.checks import NotCovered
from model.fast.families import compute_for
from tests.model.fast.bits import (
    NUMBERS,
    TARGETS,
    WEIGHTS,
    X,
    assert_same_bits,
    fast,
    rows_of,
)

Classifier, Regressor = GradientBoostingClassifier, GradientBoostingRegressor
TWO, TEXTS = TARGETS["two"], TARGETS["texts"]
MODELS: dict[str, Any] = {
    **{f"classes of {name}": Classifier(n_estimators=6).fit(X, y) for name, y in TARGETS.items()},
    **{
        f"loss {loss}": Regressor(n_estimators=8, loss=loss).fit(X, NUMBERS)
        for loss in ("squared_error", "absolute_error", "huber", "quantile")
    },
    "exponential": Classifier(n_estimators=8, loss="exponential").fit(X, TWO),
    "from zero": Classifier(n_estimators=8, init="zero").fit(X, TEXTS),
    "numbers from zero": Regressor(n_estimators=8, init="zero").fit(X, NUMBERS),
    "prior": Classifier(n_estimators=4, init=DummyClassifier(strategy="prior")).fit(X, TEXTS),
    "median": Regressor(n_estimators=4, init=DummyRegressor(strategy="median")).fit(X, NUMBERS),
    "stopped": Classifier(n_estimators=40, n_iter_no_change=2, random_state=0).fit(X, TWO),
    "samples": Regressor(n_estimators=8, subsample=0.5, learning_rate=0.3).fit(X, NUMBERS),
    "weights": Classifier(n_estimators=6, max_depth=1).fit(X, TEXTS, WEIGHTS),
    "deep": Regressor(n_estimators=3, max_depth=None).fit(X, NUMBERS),
    "one number": Regressor(n_estimators=3).fit(X, np.full(len(X), 2.5)),
}


@cache
def rows(model: Any) -> st.SearchStrategy[Any]:
    return rows_of(value for tree in model.estimators_.flat for value in tree.tree_.threshold)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
@settings(max_examples=20)
@given(data=st.data())
def test_the_answers_are_those_of_scikit_learn(model: Any, data: st.DataObject) -> None:
    assert_same_bits(model, data.draw(rows(model)))


def test_a_score_of_exactly_zero_has_the_label_of_scikit_learn() -> None:
    model = Classifier(n_estimators=1, init="zero", min_samples_leaf=100).fit(X, TWO)
    assert 0.0 in model.decision_function(X)
    assert_same_bits(model, X)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_scikit_learn_refuses_are_not_covered(value: float) -> None:
    refused = X[:2].copy()
    refused[1, 2] = value
    for model in (MODELS["deep"], MODELS["prior"]):
        with pytest.raises(NotCovered):
            fast(model)(refused)


@pytest.mark.parametrize("other", [X[:, :4], X[:0], X.astype(np.float32)])
def test_rows_of_another_form_are_not_covered(other: Any) -> None:
    with pytest.raises(NotCovered):
        fast(MODELS["prior"])(other)


def test_a_first_value_that_may_differ_by_row_has_no_fast_path() -> None:
    by_chance = DummyClassifier(strategy="stratified")
    assert compute_for(Classifier(n_estimators=2, init=by_chance).fit(X, TEXTS)) is None
    assert compute_for(Regressor(n_estimators=2, init=LinearRegression()).fit(X, NUMBERS)) is None


def test_a_model_that_is_not_fitted_has_no_fast_path() -> None:
    assert compute_for(Classifier()) is None
