"""Linear models answer by their fast path as scikit-learn does, to the last bit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNet,
    ElasticNetCV,
    HuberRegressor,
    Lasso,
    LassoCV,
    LinearRegression,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
    SGDClassifier,
)
from sklearn.svm import SVC, LinearSVC, LinearSVR

from model.fast.checks import NotCovered
from model.fast.families import compute_for
from tests.model.fast.bits import FEATURES, NUMBERS, TARGETS, X, assert_same_bits, fast

SCALED = X / [1, 1, 1, 1, 1e30]
TWO, TEXTS = TARGETS["two"], TARGETS["texts"]
REGRESSORS = (
    LinearRegression(), Ridge(), RidgeCV(), Lasso(0.01), ElasticNet(0.01), BayesianRidge(),
    HuberRegressor(max_iter=1000), LinearSVR(max_iter=9000), LinearRegression(fit_intercept=False),
    LassoCV(cv=2, alphas=3), ElasticNetCV(cv=2, alphas=3),
)  # fmt: skip
CLASSIFIERS = (LinearSVC(), RidgeClassifier(), RidgeClassifierCV(), SGDClassifier(random_state=0))
MODELS = [
    *(model.fit(SCALED, NUMBERS) for model in REGRESSORS),
    LinearRegression().fit(SCALED, NUMBERS[:, None]),
    *(type(model)().fit(SCALED, y) for model in CLASSIFIERS for y in TARGETS.values()),
]
MANY = np.resize(SCALED, (1000, FEATURES))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@settings(max_examples=20)
@given(
    rows=arrays(
        np.float64, st.tuples(st.integers(1, 20), st.just(FEATURES)), elements=st.floats(-1e9, 1e9)
    ),
    layout=st.sampled_from("CF"),
)
def test_the_answers_are_those_of_scikit_learn(model: Any, rows: Any, layout: Any) -> None:
    for some in (rows, MANY):
        assert_same_bits(model, np.asarray(some, order=layout))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("model", [MODELS[0], MODELS[-1]])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_values_that_scikit_learn_refuses_are_not_covered(model: Any, value: float) -> None:
    refused = SCALED[:3].copy()
    refused[1, 2] = value
    with pytest.raises(NotCovered):
        fast(model)(refused)
    with pytest.raises(ValueError, match="contains"):
        model.predict(refused)


@pytest.mark.parametrize("other", [X[:, :4], X[:0], X.astype(np.float32)])
def test_rows_of_another_form_are_not_covered(other: Any) -> None:
    for model in (MODELS[0], MODELS[-1]):
        with pytest.raises(NotCovered):
            fast(model)(other)


def test_models_with_more_than_a_label_or_a_number_are_left_to_scikit_learn() -> None:
    both = np.column_stack([NUMBERS, NUMBERS])
    assert compute_for(LinearRegression().fit(SCALED, both)) is None
    assert compute_for(RidgeClassifier().fit(SCALED, (both > 0).astype(int))) is None
    assert compute_for(SGDClassifier(loss="log_loss").fit(SCALED, TWO)) is None
    assert compute_for(LinearSVC().fit(SCALED, TWO).sparsify()) is None
    assert compute_for(SVC(kernel="linear").fit(SCALED, TWO)) is None
