"""The shortcut answers as scikit-learn does, to the last bit, or is not taken."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

from model import logistic
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
    y, proba = logistic.answer(model, rows)
    assert logistic.is_known(model, rows)
    assert (y.tolist(), y.dtype) == (model.predict(rows).tolist(), model.predict(rows).dtype)
    assert proba.tolist() == model.predict_proba(rows).tolist()


MANY = np.arange(len(X)) % 12  # more classes than numpy adds one after the other
FEW = np.arange(len(X)) % logistic.MAX_SEQUENTIAL


@pytest.mark.parametrize(
    "model", [*MODELS, *(LogisticRegression(max_iter=9000).fit(X, y) for y in (MANY, FEW))]
)
@given(row=arrays(np.float64, (1, 4), elements=st.floats(-1e3, 1e3)))
def test_the_answer_to_one_row_is_that_of_scikit_learn(model: Any, row: Any) -> None:
    label, proba = logistic.answer_one(model, row)
    assert [label] == model.predict(row).tolist()
    assert type(label) is type(model.predict(row).tolist()[0])
    assert [proba] == model.predict_proba(row).tolist()


def test_what_may_differ_is_left_to_scikit_learn() -> None:
    class Own(LogisticRegression):  # type: ignore[misc]
        pass

    assert not logistic.is_known(Own(max_iter=1000).fit(X, LARGE), X)
    assert not logistic.is_known(LogisticRegressionCV(), X)
    assert not logistic.is_known(MODELS[0], X.astype(np.float32))
    assert not logistic.is_known(MODELS[0], X.astype(object))
    assert not logistic.is_known(MODELS[0], X[:, :3])
    sparse = LogisticRegression(max_iter=1000).fit(X, LARGE).sparsify()
    assert not logistic.is_known(sparse, X)
