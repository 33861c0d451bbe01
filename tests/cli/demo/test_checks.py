"""The demo's questions: rows from any card, which every door reads, with the model's answers."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.svm import LinearSVC

from cli.demo.checks import Question, questions
from cli.demo.errors import CheckFailed
from cli.input.reader import Format, RowsReader
from model import artifact, rows
from model.artifact import Loaded
from model.card import Feature
from model.examples import as_typed
from model.train import describe, make_card

CITIES = ["München, Süd", 'the "old" town', "-h", " Kiel ", "NA"]
NUMBERS = np.random.default_rng(0).normal(size=(60, 3))
SIGNS = NUMBERS[:, 0] > 0


def rent_frame() -> pd.DataFrame:
    """Columns of every type, with missing values."""
    count = np.arange(60)
    return pd.DataFrame(
        {
            "living area": np.where(count % 7, 30 + NUMBERS[:, 0], np.nan),
            "rooms": count % 5 + 1,
            "city": pd.Categorical([CITIES[n % 5] for n in count]),
            "balcony": count % 2 == 0,
            "note": [None if n % 4 == 0 else f"text {n}" for n in count],
        }
    )


def rent(folder: Path) -> Loaded:
    frame = rent_frame()
    texts = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer(
        (texts, ["city", "note"]), remainder="passthrough", sparse_threshold=0
    )
    model = make_pipeline(columns, HistGradientBoostingRegressor(max_iter=5))
    model.fit(frame, 10 * NUMBERS[:, 1])
    return saved(model, describe(frame), folder)


def saved(model: Any, features: list[Feature], folder: Path) -> Loaded:
    path = folder / "own.joblib"
    artifact.save(model, make_card("own", model, features), path)
    return artifact.load(path)


def classifier(labels: list[Any], model: Any = None) -> Callable[[Path], Loaded]:
    """A model of three numbers with two of these labels."""

    def make(folder: Path) -> Loaded:
        y = np.array(labels)[SIGNS.astype(int)]
        fitted = (model or LogisticRegression()).fit(NUMBERS, y)
        return saved(fitted, describe(NUMBERS, ["a", "b", "c"]), folder)

    return make


def wide(folder: Path) -> Loaded:
    X = np.random.default_rng(1).integers(0, 17, (80, 64))
    forest = RandomForestClassifier(5, random_state=0).fit(X, X[:, 0] % 10)
    return saved(forest, describe(X, [f"pixel {n}" for n in range(64)]), folder)


def free_text(folder: Path) -> Loaded:
    texts = np.array([["a warm day"], ["1 cold night"]] * 5, dtype=object)
    model = make_pipeline(make_column_transformer((TfidfVectorizer(), 0)), LogisticRegression())
    return saved(model.fit(texts, ["warm", "cold"] * 5), [Feature(name="t", type="text")], folder)


MODELS = [
    rent, wide, free_text, classifier(["yes, of course", "not at all"]), classifier([0, 1]),
    classifier([False, True]), classifier([1.0, 2.0]), classifier(["a", "b"], LinearSVC()),
]  # fmt: skip


@pytest.mark.parametrize("make", MODELS)
def test_the_rows_are_valid_varied_and_answered(
    tmp_path: Path, make: Callable[[Path], Loaded]
) -> None:
    loaded = make(tmp_path)
    asked = questions(loaded, 100)
    rows.check(loaded.card, [question.row for question in asked])
    assert len(asked) == 100
    assert len({str(question.row) for question in asked}) >= min(100, 3)
    assert all(type(q.label) is type(asked[0].label) for q in asked)
    assert {q.proba is not None for q in asked} == {loaded.card.proba}
    if loaded.card.classes:
        assert {question.label for question in asked} <= {*loaded.card.classes}


@pytest.mark.parametrize("make", MODELS)
def test_each_row_is_read_from_arguments_and_from_a_pipe(
    tmp_path: Path, make: Callable[[Path], Loaded]
) -> None:
    loaded = make(tmp_path)
    for question in questions(loaded, 30):
        texts = [as_typed(value) for value in question.row]
        assert rows.parse(loaded.card, texts) == question.row
        if texts != [""]:  # an empty line is no row
            assert piped(loaded, texts) == [question.row]


def piped(loaded: Loaded, texts: list[str]) -> list[Any]:
    line = io.StringIO()
    csv.writer(line).writerow(texts)
    pipe = cast(Any, io.BufferedReader(io.BytesIO(line.getvalue().encode())))
    return list(RowsReader(loaded.card, pipe, Format(",", "."), lambda _: None))


def test_missing_values_are_asked_too(tmp_path: Path) -> None:
    asked = questions(rent(tmp_path), 200)
    assert {n for q in asked for n, value in enumerate(q.row) if value is None} == {0, 4}


def _fails_above_half(X: Any) -> Any:
    if (np.asarray(X, dtype=float) > 0.5).any():
        raise ValueError("too high")
    return X


def test_rows_that_the_model_does_not_answer_are_left_out(tmp_path: Path) -> None:
    step = FunctionTransformer(_fails_above_half)
    model = make_pipeline(step, LinearRegression()).fit([[0.0], [0.5]], [0.0, 1.0])
    loaded = saved(model, [Feature(name="x", minimum=0, maximum=1)], tmp_path)
    asked = questions(loaded, 50)
    assert len(asked) == 50
    assert all(question.row[0] <= 0.5 for question in asked)


def test_a_model_that_answers_no_row_of_its_card_is_reported(tmp_path: Path) -> None:
    X = np.array([["red"], ["blue"]], dtype=object)
    model = make_pipeline(OneHotEncoder(), LinearRegression()).fit(X, [0.0, 1.0])
    loaded = saved(model, [Feature(name="color", type="text")], tmp_path)
    with pytest.raises(CheckFailed, match=r"such as \['1'\] \(.*; save it with a card that names"):
        questions(loaded, 10)


@pytest.mark.parametrize(
    ("label", "proba", "y", "given", "right"),
    [
        ("a b", [0.25, 0.75], ["a b"], [[0.25, 0.75 + 1e-14]], True),
        ("a b", [0.25, 0.75], ["a b"], [[0.25, 0.7501]], False),
        ("a b", [0.25, 0.75], ["a"], [[0.25, 0.75]], False),
        ("a b", [0.25, 0.75], ["a b"], None, False),
        ("a b", [0.25, 0.75], ["a b"], [[0.25]], False),
        (1e9, None, [1e9 + 1e-5], None, True),
        (1e9, None, [1e9 + 1], None, False),
        (1, None, [True], None, False),
        (1, None, [1.0], None, False),
        (1, None, [1, 1], None, False),
        (1, None, [], None, False),
    ],
)
def test_an_answer_has_the_label_its_type_and_the_probabilities(
    label: Any, proba: Any, y: list[Any], given: Any, right: bool
) -> None:
    assert Question([0.0], label, proba).is_answered_by(y, given) == right
