"""A card learns what its model was fitted on: from the data, or by trying the fitted model."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.svm import LinearSVC

from model import artifact
from model.card import Feature
from model.errors import CardError
from model.kinds import describe_column, settle
from model.predict import matrix, predictor
from model.train import describe, make_card

NAN = np.nan
CITIES = [80331, 10115, 20095] * 4
LABELS = ["south", "east", "north"] * 4


def texts(handle_unknown: str = "ignore") -> Any:
    """The first steps of a pipeline that makes texts of all columns."""
    return [FunctionTransformer(np.vectorize(str)), OneHotEncoder(handle_unknown=handle_unknown)]


class Select(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Takes columns of a DataFrame, and records no names."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def fit(self, X: Any, _y: Any) -> Self:
        self.is_fitted_ = True
        return self

    def transform(self, X: Any) -> Any:
        return X[list(self.names)]


def answers(model: Any, features: list[Feature], rows: list[Any], path: Path) -> list[Any]:
    """What the saved and loaded model answers."""
    artifact.save(model, make_card("own", model, features), path / "own.joblib")
    loaded = artifact.load(path / "own.joblib")
    return predictor(*loaded)(matrix(rows, loaded.card.numeric)).y


@pytest.mark.parametrize("handle_unknown", ["ignore", "error"])
@pytest.mark.parametrize("last", [LogisticRegression(), LinearSVC(), KNeighborsClassifier(1)])
@pytest.mark.parametrize(
    "kind",
    [
        lambda column: np.array([column]).T,
        lambda column: np.array([column], dtype=object).T,
        lambda column: np.array([column], dtype="int32").T,
        lambda column: pd.DataFrame({"postcode": column}),
        lambda column: pd.DataFrame({"postcode": column}, dtype="Int64"),
    ],
    ids=["int64", "object", "int32", "DataFrame", "DataFrame of Int64"],
)
def test_a_postcode_is_a_whole_number_again(
    tmp_path: Path, kind: Any, last: Any, handle_unknown: str
) -> None:
    X = kind(CITIES)
    model = make_pipeline(*texts(handle_unknown), last).fit(X, LABELS)
    rows = [[80331], [10115.0], [20095]]
    assert answers(model, describe(X, ["postcode"]), rows, tmp_path) == ["south", "east", "north"]


@pytest.mark.parametrize("handle_unknown", ["ignore", "error"])
@pytest.mark.parametrize("is_frame", [False, True])
def test_a_card_written_by_hand_learns_from_its_model_that_postcodes_are_whole_numbers(
    tmp_path: Path, is_frame: bool, handle_unknown: str
) -> None:
    X: Any = np.array([CITIES]).T
    if is_frame:
        X = pd.DataFrame(X, columns=["postcode"])
    model = make_pipeline(*texts(handle_unknown), LogisticRegression()).fit(X, LABELS)
    features = [Feature(name="postcode", minimum=10115.0, maximum=80331.0)]
    rows = [[80331.0], [10115.0], [20095.0]]
    assert answers(model, features, rows, tmp_path) == ["south", "east", "north"]


def test_whole_numbers_of_floats_stay_numbers(tmp_path: Path) -> None:
    X = np.array([CITIES], dtype=float).T
    model = make_pipeline(*texts(), LogisticRegression()).fit(X, LABELS)
    features = describe(X, ["postcode"])
    assert features == [Feature(name="postcode", minimum=10115.0, maximum=80331.0)]
    assert settle(model, make_card("own", model, features)).features == tuple(features)
    assert answers(model, features, [[80331], [10115]], tmp_path) == ["south", "east"]


def test_a_model_of_numbers_keeps_the_card_that_was_written_by_hand() -> None:
    X = np.array([[1, 2.5], [3, 4.5], [5, 6.0]])
    model = Ridge().fit(X, [1.0, 2.0, 3.0])
    features = [Feature(name="a", minimum=1.0, maximum=5.0), Feature(name="b")]
    assert settle(model, make_card("own", model, features)).features == tuple(features)


@pytest.mark.parametrize("is_frame", [False, True])
@pytest.mark.parametrize("by_hand", [False, True])
def test_booleans_are_booleans_again(tmp_path: Path, is_frame: bool, by_hand: bool) -> None:
    X: Any = np.array([[True], [False]] * 6)
    if is_frame:
        X = pd.DataFrame(X, columns=["garden"])
    model = make_pipeline(*texts(), LogisticRegression()).fit(X, ["yes", "no"] * 6)
    features = describe(X, ["garden"])
    assert features == [Feature(name="garden", type="boolean")]
    if by_hand:
        features = [Feature(name="garden", minimum=0.0, maximum=1.0)]
    rows = [[True], [False], [1.0], [0]]
    assert answers(model, features, rows, tmp_path) == ["yes", "no", "yes", "no"]


WORDS, WORD_LABELS = ["red", "blue", None] * 4, [1, 2, 3] * 4


def table_of(words: list[Any], kind: str) -> Any:
    if kind == "array":
        return np.array([words], dtype=object).T
    return pd.DataFrame({"word": pd.Series(words, dtype=kind)})


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("handle_unknown", ["error", "ignore"])
@pytest.mark.parametrize("marker", [None, NAN])
@pytest.mark.parametrize("kind", ["array", "object", "str", "category"])
def test_a_missing_text_is_what_the_model_was_fitted_with(
    tmp_path: Path, kind: str, marker: Any, handle_unknown: str, by_hand: bool
) -> None:
    X = table_of([marker if word is None else word for word in WORDS], kind)
    model = make_pipeline(OneHotEncoder(handle_unknown=handle_unknown), LogisticRegression(C=100))
    model.fit(X, WORD_LABELS)
    features = describe(X, ["word"])
    if by_hand:
        features = [Feature(name="word", type="text", categories=("red", "blue"), nullable=True)]
    assert answers(model, features, [["red"], ["blue"], [None]], tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("marker", [None, NAN])
def test_a_missing_number_of_an_object_array_is_what_the_model_was_fitted_with(
    tmp_path: Path, marker: Any
) -> None:
    X = np.array([[1.5], [2.5], [marker]] * 4, dtype=object)
    model = make_pipeline(OneHotEncoder(), LogisticRegression(C=100)).fit(X, WORD_LABELS)
    by_hand = Feature(name="n", minimum=1.5, maximum=2.5, nullable=True)
    for features in (describe(X, ["n"]), [by_hand]):
        assert answers(model, features, [[1.5], [2.5], [None]], tmp_path) == [1, 2, 3]


def test_a_missing_number_reaches_a_function_of_numpy_as_a_float(tmp_path: Path) -> None:
    """numpy's functions fail for an array of objects."""
    X = np.array([[1.0], [10.0], [NAN]] * 4)
    model = make_pipeline(FunctionTransformer(np.log), SimpleImputer(), LogisticRegression())
    model.fit(X, ["low", "high", "low"] * 4)
    features = describe(X, ["n"])
    expected = model.predict([[1.0], [10.0], [NAN]]).tolist()
    assert answers(model, features, [[1.0], [10.0], [None]], tmp_path) == expected


def test_several_columns_of_one_model_are_each_what_they_were(tmp_path: Path) -> None:
    X = pd.DataFrame(
        {
            "postcode": CITIES,
            "rooms": [1.0, 2.0, 3.0] * 4,
            "garden": [True, False] * 6,
            "street": pd.Series(["a", None, "b"] * 4, dtype=object),
            "heating": pd.Categorical(["gas", "oil", None] * 4),
            "age": pd.Series([3, None, 5] * 4, dtype="Int64"),
        }
    )
    boosted = HistGradientBoostingClassifier(
        categorical_features="from_dtype", min_samples_leaf=1, max_iter=5
    )
    encode = make_column_transformer(
        (make_pipeline(*texts()), ["postcode", "garden"]),
        (OneHotEncoder(), ["street"]),
        (SimpleImputer(), ["rooms", "age"]),
    )
    model = make_pipeline(encode, LogisticRegression()).fit(X, LABELS)
    trees = boosted.fit(X.drop(columns="street"), LABELS)
    rows = [[None if pd.isna(v) else v for v in row] for row in X.to_numpy(dtype=object)]
    assert answers(model, describe(X), rows, tmp_path) == model.predict(X).tolist()
    without_street = [row[:3] + row[4:] for row in rows]
    features = describe(X.drop(columns="street"))
    expected = trees.predict(X.drop(columns="street")).tolist()
    assert answers(trees, features, without_street, tmp_path) == expected == LABELS


def test_a_description_has_types_ranges_and_markers() -> None:
    X = np.array([[7, 0.5, "a", True], [8, None, None, False]], dtype=object)
    assert describe(X, ["n", "x", "word", "flag"], unit="m") == [
        Feature(name="n", unit="m", type="integer", dtype="object", minimum=7.0, maximum=8.0),
        Feature(name="x", unit="m", dtype="object", missing="none", nullable=True,
                minimum=0.5, maximum=0.5),
        Feature(name="word", unit="m", type="text", missing="none", nullable=True),
        Feature(name="flag", unit="m", type="boolean", dtype="object"),
    ]  # fmt: skip


@pytest.mark.parametrize("column", [[1, "a"], [True, "a"], [b"a"], [np.datetime64("2026-01-01")]])
def test_a_column_that_no_row_in_json_can_have_is_refused(column: list[Any]) -> None:
    with pytest.raises(CardError, match="column 'id' holds values that are neither all numbers"):
        describe_column("id", np.array(column, dtype=object))


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_whole_numbers_that_json_does_not_carry_exactly_are_numbers(dtype: str) -> None:
    column = np.array([0, 2**53 + 1], dtype=dtype)
    assert describe_column("ns", column) == Feature(name="ns", minimum=0.0, maximum=2.0**53)


def test_lists_are_described_as_scikit_learn_reads_them() -> None:
    assert [f.type for f in describe([[1, 2], [3, 4]], ["a", "b"])] == ["integer"] * 2
    assert [f.type for f in describe([[1, 2.5], [3, 4]], ["a", "b"])] == ["number"] * 2
    mixed = describe([[1, "x"], [3, "y"]], ["a", "b"])
    assert [(f.type, f.dtype) for f in mixed] == [("integer", "object"), ("text", "")]


class Returns(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.n_features_in_ = 1

    def predict(self, rows: Any) -> Any:
        return np.array([self.answer] * len(rows))


@pytest.mark.parametrize(
    ("model", "output"),
    [
        (Returns(1.5), "number"),
        (Returns(7), "integer"),
        (Returns(True), "boolean"),
        (Returns("a"), "text"),
        (KMeans(2, n_init=1, random_state=0).fit([[0.0], [9.0]]), "integer"),
        (IsolationForest(n_estimators=3, random_state=0).fit([[0.0], [9.0]]), "integer"),
        (Ridge().fit([[0.0], [9.0]], [1, 2]), "number"),
        (GaussianNB().fit([[0.0], [9.0]], [1, 2]), "number"),  # a classifier has classes
    ],
)
def test_a_card_knows_the_type_of_the_answers_of_a_regressor(model: Any, output: str) -> None:
    card = make_card("own", model, [Feature(name="x", minimum=0.0, maximum=9.0)])
    assert settle(model, card).output == output


@pytest.mark.parametrize("names", [("size", "rooms"), ("size", "rooms", "note")])
@pytest.mark.parametrize("kind", ["step", "union"])
def test_a_first_step_of_ones_own_gets_the_data_frame_that_it_needs(
    tmp_path: Path, kind: str, names: tuple[str, ...]
) -> None:
    X = pd.DataFrame({"size": [20.5, 40.0, 60.5], "rooms": [1, 2, 3], "note": ["a", "b", "c"]})
    X = pd.concat([X] * 4, ignore_index=True)[list(names)]
    numbers = Select(("size", "rooms"))
    first = numbers if kind == "step" else make_union(numbers, Select(("size",)))
    steps: list[Any] = [first]
    if "note" in names and kind == "step":  # a text of which the card names no values
        encode = make_column_transformer((OneHotEncoder(), ["note"]), remainder="passthrough")
        steps = [Select(names), encode]
    model = make_pipeline(*steps, LogisticRegression(max_iter=1000)).fit(X, LABELS)
    card = artifact.save(model, make_card("own", model, describe(X)), tmp_path / "own.joblib")
    assert card.frame
    rows = X.to_numpy(dtype=object).tolist()
    loaded = artifact.load(tmp_path / "own.joblib")
    assert predictor(*loaded)(matrix(rows, card.numeric)).y == model.predict(X).tolist()


@pytest.mark.parametrize("values", [[1.5, 2.5], ["a", "b"]])
def test_a_model_of_an_array_gets_an_array(values: list[Any]) -> None:
    X = np.array([values * 6], dtype=object).T
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(X, [0, 1] * 6)
    assert not settle(model, make_card("own", model, describe(X, ["n"]))).frame
