"""One call of predict for all rows, and answers that can be trusted."""

from typing import Any

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVC

from model.artifact import Loaded
from model.errors import PredictError, WrongShape
from model.predict import Prediction, classes, matrix, predict
from model.train import load

X = load().X


def test_labels_and_probabilities_are_those_of_the_estimator(loaded: Loaded) -> None:
    got = predict(loaded.model, X)
    assert got == Prediction(
        loaded.model.predict(X).tolist(), loaded.model.predict_proba(X).tolist()
    )
    assert all(type(label) is str for label in got.y)


def test_a_row_has_the_same_label_alone_as_among_others(loaded: Loaded) -> None:
    together = predict(loaded.model, X)
    alone = [predict(loaded.model, row[None, :]) for row in X]
    assert together.y == [one.y[0] for one in alone]


def test_a_regressor_answers_numbers_and_has_no_probabilities() -> None:
    model = LinearRegression().fit(X[:, :3], X[:, 3])
    assert predict(model, X[:, :3]) == Prediction(model.predict(X[:, :3]).tolist(), None)


def test_integer_labels_stay_integers() -> None:
    y = (X[:, 2] > 2).astype(int)
    assert {type(v) for v in predict(RandomForestClassifier(5).fit(X, y), X).y} == {int}


def test_the_label_is_predicts_also_where_the_highest_probability_is_another() -> None:
    """A classifier with thresholds of its own, as SVC's probabilities may disagree too."""

    class Cautious(LogisticRegression):  # type: ignore[misc]
        def predict(self, rows: Any) -> Any:
            return np.where(self.predict_proba(rows)[:, 1] > 0.9, 1, 0)

    model = Cautious(max_iter=1000).fit(X, (X[:, 2] > 4.5).astype(int))
    got = predict(model, X)
    assert got.y == model.predict(X).tolist()
    assert got.proba is not None
    assert got.y != np.argmax(got.proba, axis=1).tolist()


def test_a_classifier_without_probabilities_answers_labels() -> None:
    model = SVC().fit(X, (X[:, 2] > 2).astype(int))
    assert predict(model, X) == Prediction(model.predict(X).tolist(), None)


def test_texts_and_missing_values_reach_the_estimator() -> None:
    rows: list[list[object]] = [["red", 1.0], ["blue", None], ["red", 3.0], ["blue", 5.0]]
    encode = make_column_transformer((OneHotEncoder(), [0]), (SimpleImputer(), [1]))
    table = matrix(rows, numeric=False)
    model = make_pipeline(encode, LinearRegression()).fit(table, [1.0, 2.0, 1.5, 2.5])
    assert predict(model, table).y == model.predict(table).tolist()


def test_missing_numbers_may_be_nan_to_the_estimator() -> None:
    model = HistGradientBoostingRegressor().fit(X[:, :3], X[:, 3])
    rows = matrix([[5.1, None, 1.4]], numeric=False)
    assert predict(model, rows).y == model.predict(np.array([[5.1, np.nan, 1.4]])).tolist()


class Returns:
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def predict(self, rows: Any) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (ValueError("no"), "ValueError: no"),
        ([1.0], r"shape \(1,\) for 2 rows"),
        ([[1.0], [2.0]], r"shape \(2, 1\) for 2 rows"),
        ([1.0, float("nan")], "not finite"),
        ([1.0, float("inf")], "not finite"),
    ],
)
def test_an_answer_that_cannot_be_used_is_an_error(answer: Any, fault: str) -> None:
    with pytest.raises(PredictError, match=fault):
        predict(Returns(answer), X[:2])


def test_several_outputs_are_a_wrong_shape_and_not_an_error_of_the_estimator() -> None:
    """Their probabilities are a list of arrays of unequal widths, which no array can hold."""
    y = np.c_[X[:, 0] > 5, (X[:, 1] * 2).astype(int)]
    with pytest.raises(WrongShape, match=r"predict gave shape \(3, 2\) for 3 rows"):
        predict(KNeighborsClassifier().fit(X, y), X[:3])


def test_classes_are_those_of_a_classifier_as_plain_values(loaded: Loaded) -> None:
    integers = SVC().fit(X, (X[:, 2] > 2).astype(int))
    assert classes(loaded.model) == ("setosa", "versicolor", "virginica")
    assert {type(label) for label in classes(integers)} == {int}
    assert classes(LinearRegression().fit(X[:, :3], X[:, 3])) == ()


@pytest.mark.parametrize("rows", [1, 2])
def test_numbers_that_overflow_in_the_model_are_an_error(loaded: Loaded, rows: int) -> None:
    with np.errstate(all="ignore"), pytest.raises(PredictError, match="not finite"):
        predict(loaded.model, np.full((rows, 4), 1e308))


def test_denormal_numbers_are_numbers(loaded: Loaded) -> None:
    rows = np.full((1, 4), 1e-320)
    assert predict(loaded.model, rows).y == loaded.model.predict(rows).tolist()


def test_a_constant_regressor_is_an_estimator_like_any_other() -> None:
    assert predict(DummyRegressor().fit(X, X[:, 0]), X[:2]).y == [X[:, 0].mean()] * 2
