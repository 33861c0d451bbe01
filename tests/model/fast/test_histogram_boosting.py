"""Histogram gradient boosting answers by its fast path as scikit-learn does, to the last bit."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from model.fast.checks import NotCovered
from model.fast.families import compute_for
from tests.model.fast.bits import (
    FEATURES,
    HOLED,
    NUMBERS,
    ROWS,
    TARGETS,
    WEIGHTS,
    X,
    assert_same_bits,
    fast,
    rows_of,
)

TWO, TEXTS = TARGETS["two"], TARGETS["texts"]
_random = np.random.default_rng(3)
CODES = np.column_stack(
    [_random.integers(-2, 9, ROWS) * 1.5, X[:, :3], _random.integers(0, 60, ROWS)]
)
BY_CODE = CODES[:, 0] % 4 + CODES[:, 4] % 3 + NUMBERS / 9


def classifier(y: Any, rows: Any = X, **options: Any) -> Any:
    options = {"max_iter": 6, "min_samples_leaf": 4, "random_state": 0} | options
    return HistGradientBoostingClassifier(**options).fit(rows, y)


def regressor(y: Any = NUMBERS, rows: Any = X, **options: Any) -> Any:
    options = {"max_iter": 6, "min_samples_leaf": 4, "random_state": 0} | options
    return HistGradientBoostingRegressor(**options).fit(rows, y)


MODELS: dict[str, Any] = {
    **{f"classes of {name}": classifier(y) for name, y in TARGETS.items()},
    **{
        f"loss {loss}": regressor(np.abs(NUMBERS) + 0.1, loss=loss, quantile=quantile)
        for loss, quantile in (
            ("squared_error", None), ("absolute_error", None), ("gamma", None), ("poisson", None),
            ("quantile", 0.3),
        )
    },
    "with holes": classifier(TEXTS, HOLED),
    "numbers with holes": regressor(rows=HOLED),
    "one iteration": regressor(max_iter=1),
    "many iterations": classifier(TWO, max_iter=70, max_depth=2),
    "stopped": classifier(TWO, max_iter=50, early_stopping=True, n_iter_no_change=2),
    "no split": regressor(min_samples_leaf=100),
    "weights": HistGradientBoostingClassifier(max_iter=5).fit(X, TEXTS, WEIGHTS),
    "monotonic": regressor(monotonic_cst=[1, -1, 0, 0, 0], interaction_cst="pairwise"),
    "32-bit floats": regressor(rows=X.astype(np.float32)),
}  # fmt: skip
CATEGORICAL: dict[str, Any] = {
    "by place": regressor(BY_CODE, CODES, categorical_features=[0, 4]),
    "by mask": classifier(TEXTS, CODES, categorical_features=[False] * 4 + [True]),
    "first": regressor(BY_CODE, CODES, categorical_features=[0]),
    "all": regressor(BY_CODE, np.floor(CODES), categorical_features=[*range(FEATURES)]),
    "with holes": regressor(
        BY_CODE, np.where(_random.random(X.shape) < 0.2, np.nan, CODES), categorical_features=[0, 4]
    ),
    "with nothing but holes": regressor(
        BY_CODE, np.column_stack([np.full(ROWS, np.nan), CODES[:, 1:]]), categorical_features=[0, 4]
    ),
}


@cache
def rows(model: Any, *more: float) -> st.SearchStrategy[Any]:
    trees = [tree.nodes for iteration in model._predictors for tree in iteration]
    return rows_of((value for nodes in trees for value in nodes["num_threshold"]), *more)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
@settings(max_examples=20)
@given(data=st.data())
def test_the_answers_are_those_of_scikit_learn(model: Any, data: st.DataObject) -> None:
    extreme = [np.inf, -np.inf, 1e300, *[np.nan] * 20]
    assert_same_bits(model, data.draw(rows(model, *extreme)))


@pytest.mark.parametrize("model", CATEGORICAL.values(), ids=CATEGORICAL.keys())
@settings(max_examples=25)
@given(data=st.data())
def test_known_unknown_and_missing_categories_are_those_of_scikit_learn(
    model: Any, data: st.DataObject
) -> None:
    codes = [*np.unique(CODES[:, [0, 4]]).tolist(), -1.0, 300.0, *[np.nan] * 9]
    assert_same_bits(model, data.draw(rows(model, *codes * 3)))


def test_an_infinite_category_is_not_covered() -> None:
    infinite = CODES[:2].copy()
    infinite[0, 4] = np.inf
    with pytest.raises(NotCovered):
        fast(CATEGORICAL["by place"])(infinite)
    with pytest.raises(ValueError, match="infinity"):
        CATEGORICAL["by place"].predict(infinite)


def test_categories_of_texts_have_no_fast_path() -> None:
    frame = pd.DataFrame({"kind": pd.Categorical(TEXTS), "size": X[:, 0]})
    model = HistGradientBoostingRegressor(max_iter=2).fit(frame, NUMBERS)
    assert compute_for(model) is None


@pytest.mark.parametrize("other", [X[:, :4], X[:0], X.astype(np.float32)])
def test_rows_of_another_form_are_not_covered(other: Any) -> None:
    with pytest.raises(NotCovered):
        fast(MODELS["with holes"])(other)


def test_a_model_that_is_not_fitted_has_no_fast_path() -> None:
    assert compute_for(HistGradientBoostingClassifier()) is None
