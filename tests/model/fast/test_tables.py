"""The answers of a fast path are those for the table that a model was fitted on, bit for bit."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

from model.card import Card
from model.errors import PredictError
from model.kinds import describe_column
from model.predict import matrix, predict, predictor
from model.table import floats_for, table_for
from tests.model.fast.bits import NUMBERS, ROWS, TARGETS

_random = np.random.default_rng(11)
SIZES = _random.normal(size=(ROWS, 6))
WHOLE = np.round(SIZES * 9).astype(np.int64)
GAPS = SIZES[:, 0].astype(object)
GAPS[_random.random(ROWS) < 0.2] = None


def frame(*columns: Any) -> Any:
    return pd.DataFrame({f"c {n}": column for n, column in enumerate(columns)})


TABLES: dict[str, Any] = {
    "array": SIZES,
    "array of whole numbers": WHOLE,
    "floats": frame(*SIZES.T),
    "whole numbers": frame(*WHOLE.T),
    "small whole numbers": frame(*WHOLE.T.astype(np.int8), WHOLE[:, 0]),
    "booleans": frame(*(SIZES > 0).T),
    "booleans and whole numbers": frame(*(SIZES > 0).T, *WHOLE.T),
    "booleans and floats": frame(*(SIZES > 0).T, *SIZES.T),
    "whole numbers and floats": frame(*WHOLE.T, *SIZES.T),
    "objects": frame(*WHOLE.T.astype(object), *SIZES.T),
    "numbers of pandas": frame(
        *(pd.array(c, dtype="Int64") for c in WHOLE.T),
        *(pd.array(c, dtype="Float64") for c in SIZES.T),
        pd.array(SIZES[:, 0] > 0, dtype="boolean"),
    ),
}
HOLED: dict[str, Any] = {
    "array": np.where(_random.random(SIZES.shape) < 0.2, np.nan, SIZES),
    "floats": frame(*np.where(_random.random(SIZES.shape) < 0.2, np.nan, SIZES).T),
    "objects": frame(GAPS, *SIZES.T),
    "numbers of pandas": frame(pd.array(GAPS, dtype="Float64"), *WHOLE.T, SIZES[:, 0] > 0),
}
OTHER: dict[str, Any] = {
    "texts": frame(*SIZES.T, TARGETS["texts"]),
    "categories": frame(*SIZES.T, pd.Categorical(WHOLE[:, 0])),
    "small floats": frame(*SIZES.T.astype(np.float32)),
    "small array": SIZES.astype(np.float32),
}


def features_of(table: Any) -> Any:
    columns = table.items() if isinstance(table, pd.DataFrame) else enumerate(table.T)
    return tuple(describe_column(str(name), column) for name, column in columns)


def card_of(model: Any, table: Any) -> Card:
    kind: Any = "classifier" if hasattr(model, "classes_") else "regressor"
    is_classifier = kind == "classifier"
    return Card(
        name="own", kind=kind, features=features_of(table), proba=is_classifier,
        libraries={}, sha256="0" * 64,
    )  # fmt: skip


def rows_of(table: Any) -> list[list[Any]]:
    plain = table.astype(object).to_numpy() if isinstance(table, pd.DataFrame) else table
    missing = pd.isna(plain)
    return [
        [None if gap else value for value, gap in zip(row, gaps, strict=True)]
        for row, gaps in zip(plain.tolist(), missing.tolist(), strict=True)
    ]


def assert_fast_and_equal(model: Any, table: Any) -> None:
    """The answers to many rows and to each alone are those for the table, from the fast path."""
    card, rows = card_of(model, table), rows_of(table)
    answer = predictor(model, card)
    cases = [rows, *([row] for row in rows[:9])]
    arrays = [matrix(case, card.numeric) for case in cases]
    tables = [table_for(model, card.features)(X) for X in arrays]
    expected = [model.predict(each).tolist() for each in tables]
    proba = [model.predict_proba(each).tolist() if card.proba else None for each in tables]
    model.predict = model.predict_proba = None  # the ordinary way would fail
    answers = [answer(X) for X in arrays]
    assert [each.y for each in answers] == expected
    assert [each.proba for each in answers] == proba


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_the_answers_are_those_for_the_table(table: Any) -> None:
    assert_fast_and_equal(LinearRegression().fit(table, NUMBERS), table)
    assert_fast_and_equal(LogisticRegression(C=0.1).fit(table, TARGETS["texts"]), table)
    assert_fast_and_equal(RandomForestClassifier(5).fit(table, TARGETS["booleans"]), table)


@pytest.mark.parametrize("table", HOLED.values(), ids=HOLED.keys())
def test_a_missing_value_is_answered_as_in_the_table(table: Any) -> None:
    assert_fast_and_equal(RandomForestClassifier(5).fit(table, TARGETS["texts"]), table)
    assert_fast_and_equal(HistGradientBoostingRegressor(max_iter=5).fit(table, NUMBERS), table)


@pytest.mark.parametrize("table", OTHER.values(), ids=OTHER.keys())
def test_a_table_that_is_not_made_of_64_bit_floats_takes_the_ordinary_way(table: Any) -> None:
    assert floats_for(LinearRegression(), features_of(table)) is None


def test_a_table_of_a_card_without_dtypes_is_answered_bit_for_bit() -> None:
    model = LinearRegression().fit(frame(*SIZES.T), NUMBERS)
    expected = model.predict(frame(*SIZES.T)).tolist()
    assert predict(model, SIZES).y == expected


def test_a_missing_value_that_a_model_refuses_has_the_error_of_scikit_learn() -> None:
    model = LinearRegression().fit(frame(*SIZES.T), NUMBERS)
    card = card_of(model, HOLED["floats"])
    with pytest.raises(PredictError, match="Input X contains NaN"):
        predictor(model, card)(matrix([[None] * 6], card.numeric))
