"""One call of predict for all rows, halved where it fails, and answers that can be trusted."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from model.artifact import Loaded
from model.errors import NotFinite, PredictError, WrongShape
from model.predict import (
    MAX_GROWTH,
    CostEstimate,
    Joint,
    Prediction,
    classes,
    matrix,
    predict,
    predict_together,
    split,
)
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
        ([[1.0, 2.0], [2.0, 3.0]], r"shape \(2, 2\) for 2 rows"),
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
    with pytest.raises(WrongShape, match=r"predict returned shape \(3, 2\) for 3 rows"):
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


def logarithm() -> Any:
    return FunctionTransformer(np.log)


SIZES, LARGE = np.arange(1.0, 41.0).reshape(-1, 1), np.arange(1, 41) > 20


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.parametrize(
    "last",
    [
        LinearSVC(), RidgeClassifier(), SVC(), KNeighborsClassifier(), LogisticRegression(),
        DecisionTreeClassifier(), RandomForestClassifier(3), ExtraTreesRegressor(3),
        GradientBoostingClassifier(n_estimators=2), MLPClassifier((2,), max_iter=5),
        LinearRegression(), SVR(), KNeighborsRegressor(), GaussianNB(), KMeans(2),
        HistGradientBoostingClassifier(max_iter=2), make_pipeline(StandardScaler(), SVC()),
        BaggingClassifier(LinearSVC(), 2), VotingClassifier([("svm", LinearSVC())]),
    ],
    ids=lambda estimator: type(estimator).__name__,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_infinity_that_a_step_makes_has_the_outcome_of_the_estimator(last: Any) -> None:
    """Most estimators refuse it; histograms of boosted trees take it as a large value."""
    model = make_pipeline(logarithm(), clone(last)).fit(SIZES, LARGE)
    rows = np.array([[0.0]])
    if isinstance(last, HistGradientBoostingClassifier):
        assert predict(model, rows).y == model.predict(rows).tolist()
        return
    with pytest.raises(ValueError, match="infinity"):
        model.predict(rows)
    with pytest.raises(PredictError, match="infinity"):
        predict(model, rows)


@pytest.mark.parametrize(
    "model",
    [LinearSVC(), RidgeClassifier(), SVC(), KNeighborsClassifier(), GaussianNB(), SVR()],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.parametrize("between", [None, StandardScaler()], ids=["alone", "after a scaler"])
def test_a_missing_value_that_the_estimator_does_not_take_is_an_error(
    model: Any, between: Any
) -> None:
    fitted = make_pipeline(between or "passthrough", clone(model)).fit(SIZES, LARGE)
    with pytest.raises(PredictError, match="NaN"):
        predict(fitted, matrix([[None]], numeric=False))


def test_a_missing_value_is_answered_where_an_imputer_or_the_estimator_takes_it() -> None:
    holed = np.where(SIZES == 7, np.nan, SIZES)
    rows = matrix([[None], [3.0]], numeric=False)
    for model in (
        make_pipeline(SimpleImputer(), LinearSVC()),
        HistGradientBoostingClassifier(max_iter=2),
        DecisionTreeClassifier(),
    ):
        fitted = clone(model).fit(holed, LARGE)
        assert predict(fitted, rows).y == fitted.predict([[np.nan], [3.0]]).tolist()


def test_a_number_that_overflows_in_a_step_is_an_error() -> None:
    """Trees take their numbers as 32-bit floats."""
    with np.errstate(all="ignore"), pytest.raises(PredictError, match="too large for dtype"):
        predict(DecisionTreeClassifier().fit(SIZES, LARGE), np.array([[1e300]]))


def test_a_constant_regressor_is_an_estimator_like_any_other() -> None:
    assert predict(DummyRegressor().fit(X, X[:, 0]), X[:2]).y == [X[:, 0].mean()] * 2


class Grumpy:
    """Returns each row's only value, and fails for every call with a negative one."""

    def __init__(self) -> None:
        self.calls: list[list[float]] = []

    def __call__(self, rows: Any) -> Prediction:
        values = rows[:, 0].tolist()
        self.calls.append(values)
        if min(values) < 0:
            raise PredictError(f"negative in {values}")
        return Prediction(values, None)


def column(*values: float) -> Any:
    return np.array(values, dtype=np.float64).reshape(-1, 1)


def test_the_rows_of_all_callers_are_one_call_if_none_fails() -> None:
    model = Grumpy()
    joints = predict_together(model, column(0, 1, 2, 3), [1, 2, 1])
    assert joints == [Joint(3, Prediction([0.0, 1.0, 2.0, 3.0], None))]
    assert model.calls == [[0.0, 1.0, 2.0, 3.0]]


def test_a_part_that_fails_gets_its_error_and_its_neighbours_their_predictions() -> None:
    model = Grumpy()
    first, second, third, fourth = predict_together(
        model, column(0, 1, 2, -3, 4, 5, 6, 7), [1, 1, 1, 2, 1, 1, 1]
    )
    assert first == Joint(3, Prediction([0.0, 1.0, 2.0], None))
    assert (second.parts, str(second.outcome)) == (1, "negative in [-3.0, 4.0]")
    assert third == Joint(1, Prediction([5.0], None))
    assert fourth == Joint(2, Prediction([6.0, 7.0], None))


def test_one_failing_part_among_many_costs_two_calls_for_each_halving() -> None:
    model = Grumpy()
    predict_together(model, column(*range(77), -1, *range(78, 128)), [1] * 128)
    assert len(model.calls) == 1 + 2 * 7


def test_no_parts_are_no_calls() -> None:
    model = Grumpy()
    assert predict_together(model, np.empty((0, 1)), []) == []
    assert model.calls == []


@given(st.lists(st.lists(st.integers(-1, 9), min_size=1, max_size=4), min_size=1, max_size=12))
def test_each_part_gets_what_it_gets_alone_in_its_order(parts: list[list[int]]) -> None:
    counts = [len(part) for part in parts]
    joints = predict_together(Grumpy(), column(*(v for part in parts for v in part)), counts)
    assert sum(joint.parts for joint in joints) == len(parts)
    found: list[list[float] | str] = []
    for joint in joints:
        own = counts[len(found) : len(found) + joint.parts]
        if isinstance(joint.outcome, PredictError):
            assert joint.parts == 1
            found.append(str(joint.outcome))
        else:
            found += split(joint.outcome.y, own)
    assert found == [
        f"negative in {[float(v) for v in part]}" if min(part) < 0 else part for part in parts
    ]


def test_the_answers_of_a_real_model_are_those_of_each_part_alone(loaded: Loaded) -> None:
    rows = np.array([[5.1, 3.5, 1.4, 0.2], [1e308] * 4, [6.3, 3.3, 6.0, 2.5]])
    with np.errstate(all="ignore"):
        first, second, third = predict_together(lambda X: predict(loaded.model, X), rows, [1, 1, 1])
    assert first.outcome == predict(loaded.model, rows[:1])
    assert isinstance(second.outcome, NotFinite)
    assert third.outcome == predict(loaded.model, rows[2:])


def test_an_error_that_is_not_the_models_is_not_hidden() -> None:
    def broken(rows: Any) -> Prediction:
        raise MemoryError

    with pytest.raises(MemoryError):
        predict_together(broken, column(1, 2), [1, 1])


@pytest.mark.parametrize(
    ("counts", "parts"),
    [([1, 1, 1], [["a"], ["b"], ["c"]]), ([2, 1], [["a", "b"], ["c"]]), ([3], [["a", "b", "c"]])],
)
def test_values_are_split_by_the_rows_of_each_part(
    counts: list[int], parts: list[list[str]]
) -> None:
    assert split(["a", "b", "c"], counts) == parts


def test_the_cost_of_a_call_is_guessed_from_the_last_one() -> None:
    cost = CostEstimate()
    assert cost.guess(1) == math.inf
    cost.observe(100, 0.5)
    assert (cost.guess(100), cost.guess(200), cost.guess(1)) == (0.5, 1.0, 0.5)
    cost.observe(10, 0.25)
    assert (cost.guess(10), cost.guess(40)) == (0.25, 1.0)


def test_one_slow_call_raises_the_guess_by_a_limited_factor() -> None:
    cost = CostEstimate()
    cost.observe(1, 0.001)
    cost.observe(1, 60.0)
    assert cost.guess(1) == 0.001 * MAX_GROWTH
    cost.observe(1, 60.0)
    assert cost.guess(1) == 0.001 * MAX_GROWTH**2


def test_the_guess_for_a_call_without_rows_is_a_number() -> None:
    cost = CostEstimate()
    cost.observe(0, 0.5)
    assert cost.guess(0) == 0.5
