"""The shortcut answers as scikit-learn does, to the last bit, or is not taken."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LogisticRegression

from model.fast import logistic
from model.fast.checks import NotCovered
from model.fast.families import compute_for, compute_one_for
from model.train import load

X = load().X
SPECIES = load().y
LARGE = X[:, 2] > 4.5

MODELS = [
    LogisticRegression(max_iter=1000).fit(X, SPECIES),
    LogisticRegression(max_iter=1000, fit_intercept=False).fit(X, SPECIES),
    LogisticRegression(max_iter=1000).fit(X, LARGE),
    LogisticRegression(max_iter=1000).fit(X, LARGE.astype(int)),
    LogisticRegression(solver="liblinear").fit(X, np.where(LARGE, "large", "small")),
]
ROWS = arrays(np.float64, st.tuples(st.integers(1, 40), st.just(4)), elements=st.floats(-1e3, 1e3))


@pytest.mark.parametrize("model", MODELS)
@given(rows=ROWS)
def test_the_answers_are_those_of_scikit_learn(model: Any, rows: Any) -> None:
    compute = compute_for(model)
    assert compute is not None
    y, proba = compute(rows)
    assert (y.tolist(), y.dtype) == (model.predict(rows).tolist(), model.predict(rows).dtype)
    assert proba is not None
    assert proba.tolist() == model.predict_proba(rows).tolist()


MANY = np.arange(len(X)) % 12  # more classes than numpy adds one after the other
FEW = np.arange(len(X)) % logistic.MAX_SEQUENTIAL
OF_ONE = [*MODELS[:2], LogisticRegression(max_iter=9000).fit(X, FEW)]


@pytest.mark.parametrize("model", OF_ONE)
@given(row=arrays(np.float64, (1, 4), elements=st.floats(-1e3, 1e3)))
def test_the_answer_to_one_row_is_that_of_scikit_learn(model: Any, row: Any) -> None:
    compute_one = compute_one_for(model)
    assert compute_one is not None
    label, proba = compute_one(row)
    assert [label] == model.predict(row).tolist()
    assert type(label) is type(model.predict(row).tolist()[0])
    assert [proba] == model.predict_proba(row).tolist()


def test_one_row_is_computed_by_numpy_where_python_is_not_faster_or_adds_otherwise() -> None:
    many = LogisticRegression(max_iter=9000).fit(X, MANY)
    assert [compute_one_for(model) for model in (many, *MODELS[2:])] == [None] * 4


@pytest.mark.parametrize(
    "rows", [X.astype(np.float32), X.astype(object), X[:, :3], X[:0], np.full((1, 4), np.nan)]
)
@pytest.mark.parametrize("model", MODELS)
def test_rows_that_scikit_learn_must_see_are_not_covered(model: Any, rows: Any) -> None:
    computes = filter(None, (compute_for(model), compute_one_for(model)))
    for compute in computes:
        with pytest.raises(NotCovered):
            compute(rows)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_infinity_in_one_column_is_not_covered(value: float) -> None:
    rows = X[:1].copy()
    rows[0, 1] = value
    for model in MODELS:
        for compute in filter(None, (compute_for(model), compute_one_for(model))):
            with pytest.raises(NotCovered):
                compute(rows)


def test_sparse_coefficients_are_left_to_scikit_learn() -> None:
    sparse = LogisticRegression(max_iter=1000).fit(X, LARGE).sparsify()
    assert compute_for(sparse) is None
