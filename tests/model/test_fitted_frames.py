"""A model that was fitted on a DataFrame gets the same columns, values and dtypes from every row.

The probe answers with a digest of the table that it gets: a wrong dtype, value, name or order is
another answer.
"""

import io
import json
import zlib
from pathlib import Path
from typing import Any, Self

import joblib
import msgspec
import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder

from model import artifact, rows, trial
from model import card as cards
from model.card import Card
from model.errors import InvalidRow
from model.kinds import settle
from model.predict import matrix, predictor
from model.train import describe, make_card

LABELS = [0, 1, 1, 0] * 6
ODD_NAMES = ["a b", "größe, mm", "x:y", 'say "hi"', "", "a_b", "size=5", "玩具", "n\nl"]


class Probe(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Answers with a digest of each row, of its names and of its dtypes."""

    def fit(self, X: Any, _y: Any = None) -> Self:
        self._validate(X)
        return self

    def _validate(self, X: Any) -> None:
        self.feature_names_in_ = np.array(X.columns, dtype=object)
        self.n_features_in_ = X.shape[1]

    def predict(self, X: Any) -> Any:
        kinds = [(name, str(dtype), getattr(dtype, "ordered", "")) for name, dtype in
                 zip(X.columns, X.dtypes, strict=True)]  # fmt: skip
        levels = [repr(getattr(dtype, "categories", "")) for dtype in X.dtypes]
        digests = [
            zlib.crc32(repr([kinds, levels, list(map(repr, row))]).encode())
            for row in X.itertuples(index=False, name=None)
        ]
        return np.array(digests, dtype=float)


def column(values: list[Any], dtype: Any = None) -> Any:
    return pd.Series([values[n % len(values)] for n in range(len(LABELS))], dtype=dtype)


def times(*texts: str | None, dtype: str) -> Any:
    return column(list(texts), dtype)


CATEGORIES: dict[str, Any] = {
    "texts": pd.CategoricalDtype(["b", "a", "ß c"]),
    "ordered": pd.CategoricalDtype(["low", "mid", "high"], ordered=True),
    "ints": pd.CategoricalDtype([30, 10, 20]),
    "floats": pd.CategoricalDtype([0.5, 1.5]),
    "bools": pd.CategoricalDtype([True, False]),
}
DAYS = "2024-01-01", "2024-07-01T12:30:00"
COLUMNS: dict[str, Any] = {
    "int64": column([80331, 10115]),
    "int8": column([1, -3], "int8"),
    "uint16": column([1, 65535], "uint16"),
    "float64": column([0.5, 1.5, np.nan]),
    "float32": column([0.1, 0.7], "float32"),
    "float16": column([0.5, 0.25, np.nan], "float16"),
    "bool": column([True, False]),
    "bool object": column([True, False], object),
    "bool object with None": column([True, None, False], object),
    "int object": column([7, None], object),
    "text object": column(["a", "ß c", "", "x, y"], object),
    "str": column(["a", "ß c", None], "str"),
    "string": column(["a", "b", None], "string"),
    "string[python]": column(["a", "b", None], "string[python]"),
    "string[pyarrow]": column(["a", "b", None], "string[pyarrow]"),
    "Int64": column([7, None], "Int64"),
    "Int8": column([7, 8], "Int8"),
    "Float32": column([0.5, None], "Float32"),
    "boolean": column([True, None], "boolean"),
    "int64[pyarrow]": column([7, None], "int64[pyarrow]"),
    "double[pyarrow]": column([0.5, None], "double[pyarrow]"),
    "bool[pyarrow]": column([True, None], "bool[pyarrow]"),
    "category texts": column(["a", "b", None, "ß c"], CATEGORIES["texts"]),
    "category ordered": column(["low", "high", None], CATEGORIES["ordered"]),
    "category ints": column([10, 20, None], CATEGORIES["ints"]),
    "category ints, none missing": column([10, 20, 30], CATEGORIES["ints"]),
    "category floats": column([0.5, 1.5], CATEGORIES["floats"]),
    "category bools": column([True, False, None], CATEGORIES["bools"]),
    "datetime64[us]": times(*DAYS, dtype="datetime64[us]"),
    "datetime64[ns]": times(*DAYS, "2024-07-01T12:30:00.123456789", dtype="datetime64[ns]"),
    "datetime64[s]": times(*DAYS, None, dtype="datetime64[s]"),
    "datetime64 UTC": times(*DAYS, dtype="datetime64[us, UTC]"),
    "datetime64 Berlin": times(*DAYS, None, dtype="datetime64[ns, Europe/Berlin]"),
    "datetime64 offset": times(*DAYS, dtype="datetime64[us, UTC+02:00]"),
}


def as_json(X: Any) -> list[list[Any]]:
    """The rows as a client sends them: by way of JSON."""
    sent = [[trial.plain_value(v) for v in row] for row in X.to_numpy(dtype=object).tolist()]
    decoded: list[list[Any]] = json.loads(json.dumps(sent))
    return decoded


def served(model: Any, X: Any, path: Path) -> tuple[Any, Card]:
    artifact.save(model, make_card("own", model, describe(X)), path / "own.joblib")
    return artifact.load(path / "own.joblib")


def copied(model: Any, X: Any) -> tuple[Any, Card]:
    """What `served` returns, without the new process in which an artifact is tried first."""
    copy = joblib.load(io.BytesIO(artifact.dump(model)))
    card = settle(copy, cards.plain(make_card("own", model, describe(X))))
    assert trial.answer_fault(copy, card) is None
    return copy, msgspec.json.decode(cards.encode(card), type=Card)


def answers(model: Any, card: Card, table: list[list[Any]]) -> list[Any]:
    rows.check(card, table)
    return predictor(model, card)(matrix(table, card.numeric)).y


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_what_it_was_whatever_is_beside_it(name: str) -> None:
    for X in (pd.DataFrame({"x": COLUMNS[name]}), pd.DataFrame({"t": "a", "x": COLUMNS[name]})):
        model, card = copied(Probe().fit(X), X)
        table = as_json(X)
        assert answers(model, card, table) == model.predict(X).tolist()
        one_by_one = [answers(model, card, [row])[0] for row in table]
        assert one_by_one == model.predict(X).tolist()


def test_all_columns_together_keep_odd_names_and_their_order(tmp_path: Path) -> None:
    names = [*ODD_NAMES, *COLUMNS][: len(COLUMNS)]
    X = pd.DataFrame(dict(zip(names, COLUMNS.values(), strict=True)))
    model, card = served(Probe().fit(X), X, tmp_path)
    assert card.names == names
    assert answers(model, card, as_json(X)) == model.predict(X).tolist()


def dates_as_numbers(X: Any) -> Any:
    return X.apply(lambda each: each.dt.day_of_year).to_numpy()


MIXED = pd.DataFrame(
    {
        "built on": COLUMNS["datetime64 Berlin"].fillna(pd.Timestamp("2024-02-02", tz="UTC")),
        "kind: of": COLUMNS["category texts"],
        "grade": COLUMNS["category ordered"],
        "floor": COLUMNS["category ints"],
        "garden": COLUMNS["bool"],
        "größe": COLUMNS["float32"],
        "plz": COLUMNS["int64"],
    }
)
ENCODED = make_column_transformer(
    (FunctionTransformer(dates_as_numbers), ["built on"]),
    (OneHotEncoder(handle_unknown="ignore"), ["kind: of", "floor"]),
    (OrdinalEncoder(encoded_missing_value=-1), ["grade"]),
    ("passthrough", ["garden", "größe"]),
    (make_pipeline(FunctionTransformer(np.vectorize(str)), OneHotEncoder()), ["plz"]),
)
CATEGORICAL = MIXED[["kind: of", "grade", "floor", "garden", "größe"]]


@pytest.mark.parametrize(
    ("model", "X"),
    [
        (make_pipeline(ENCODED, LogisticRegression(max_iter=1000)), MIXED),
        (make_pipeline(ENCODED, RandomForestClassifier(5, random_state=0)), MIXED),
        (
            HistGradientBoostingClassifier(
                categorical_features="from_dtype", max_iter=5, min_samples_leaf=1
            ),
            CATEGORICAL,
        ),
        (
            LGBMClassifier(n_estimators=3, min_child_samples=1, verbose=-1),
            CATEGORICAL.set_axis(["kind", "grade", "floor", "garden", "size"], axis=1),
        ),
    ],
    ids=["logistic", "forest", "HistGradientBoosting", "LightGBM"],
)
def test_a_real_pipeline_answers_each_row_as_it_answers_the_data_frame(
    tmp_path: Path, model: Any, X: Any
) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, len(X))
    model.fit(X, y)
    loaded, card = served(model, X, tmp_path)
    predict = predictor(loaded, card)
    for n, row in enumerate(as_json(X)):
        alone = X.iloc[[n]]
        expected = model.predict(alone).tolist(), model.predict_proba(alone).tolist(), None
        assert predict(matrix([row], card.numeric)) == expected


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("category ints", 15, "unknown_category"),
        ("category ints", "10", "wrong_type"),
        ("category ints, none missing", 15, "unknown_category"),
        ("category floats", 0.75, "unknown_category"),
        ("category bools", "true", "wrong_type"),
        ("category ordered", "top", "unknown_category"),
        ("int8", 200, "wrong_type"),
        ("datetime64[us]", "soon", "wrong_type"),
        ("datetime64[us]", 20240501, "wrong_type"),
        ("datetime64[us]", "2024-07-01T12:30Z", "wrong_type"),
        ("datetime64[us]", None, "wrong_type"),
        ("datetime64[ns]", "1066-10-14", "wrong_type"),
    ],
)
def test_a_value_that_the_column_cannot_hold_is_refused(name: str, value: Any, code: str) -> None:
    X = pd.DataFrame({"x": COLUMNS[name]})
    card = make_card("own", Probe().fit(X), describe(X))
    with pytest.raises(InvalidRow) as refused:
        rows.check(card, [[value]])
    assert refused.value.code == code
    array = np.array([[value]], dtype=float) if type(value) is int and card.numeric else None
    if array is not None:
        with pytest.raises(InvalidRow) as refused:
            rows.check_array(card.features, array)
        assert refused.value.code == code
