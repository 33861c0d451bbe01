"""Pipelines have the answers of scikit-learn to the last bit, whichever steps are known."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from model.errors import PredictError
from model.fast import steps as known_steps
from model.fast.checks import NotCovered
from model.fast.columns import root
from model.fast.pipeline import _stages, _steps_of, fast_for
from model.fast.steps import as_scikit_learn, to_matrix
from model.predict import predictor
from tests.model.fast.tables import (
    FRAME,
    NUMBERS,
    TEXTS,
    Case,
    fitted,
    rows_for,
    training_rows,
)

warnings.simplefilter("ignore", category=UserWarning)


def logistic() -> Any:
    return LogisticRegression(max_iter=2000, C=0.1)


def imputed(*steps: Any, **options: Any) -> Any:
    return make_pipeline(SimpleImputer(**options), *steps)


def one_hot(**options: Any) -> Any:
    return OneHotEncoder(**{"handle_unknown": "ignore", **options})


def of_columns(*parts: Any, last: Any = None, **options: Any) -> Any:
    return make_pipeline(make_column_transformer(*parts, **options), last or logistic())


RARE = {"handle_unknown": "infrequent_if_exist"}
FREQUENT = {"strategy": "most_frequent"}
SCALED = (imputed(StandardScaler(), strategy="median"), NUMBERS)
ENCODED = (imputed(one_hot(), **FREQUENT), TEXTS)
KNOWN: dict[str, Any] = {
    "scaled and encoded": of_columns(SCALED, ENCODED),
    "encoded, then scaled": of_columns(ENCODED, SCALED),
    "a tree": of_columns(SCALED, ENCODED, last=DecisionTreeClassifier()),
    "a sparse matrix for a tree": of_columns(
        (one_hot(), ["kind", "owner", "level"]), sparse_threshold=1.0, last=DecisionTreeClassifier()
    ),
    "a sparse matrix for a linear model": of_columns(ENCODED, SCALED, sparse_threshold=1.0),
    "dropped and passed": of_columns(
        ("drop", ["new"]), ("passthrough", ["rooms", "floor"]), (MinMaxScaler(), ["size"])
    ),
    "the rest passed": of_columns((one_hot(), ["kind", "street"]), remainder="passthrough"),
    "short floats beside long": of_columns((RobustScaler(), ["ratio", "size", "new"])),
    "short floats passed": of_columns(("passthrough", ["ratio"]), (MaxAbsScaler(), ["size"])),
    "chosen by dtype": of_columns(
        (imputed(RobustScaler()), make_column_selector(dtype_include="float64")),
        (imputed(one_hot(), strategy="constant", fill_value="?"), ["heat: type", "street"]),
    ),
    "ordinal": of_columns(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), [*TEXTS, "owner"]),
        (imputed(OrdinalEncoder(encoded_missing_value=-2), **FREQUENT), ["class"]),
        last=DecisionTreeClassifier(),
    ),
    "missing encoded": of_columns(
        (OrdinalEncoder(encoded_missing_value=-9), ["class"]), (one_hot(), ["owner", "lift"])
    ),
    "numbers encoded": of_columns(
        (one_hot(), ["rooms", "new", "level", "age m²"]),
        (imputed(one_hot(), **FREQUENT), ["level"])
    ),
    "a dropped category": of_columns(
        (OneHotEncoder(drop="first"), ["class", "kind"]),
        (OneHotEncoder(drop=["flat"]), ["kind"]), (OneHotEncoder(drop="if_binary"), ["new"])
    ),
    "rare categories": of_columns(
        (one_hot(min_frequency=25), TEXTS),
        (one_hot(**RARE, max_categories=2), ["kind", "owner", "level"]),
        (one_hot(**RARE, min_frequency=1), ["heat: type"]),
        (OneHotEncoder(min_frequency=22, drop="first"), ["class", "new"]),
    ),
    "rare categories, numbered": of_columns(
        (
            OrdinalEncoder(
                handle_unknown="use_encoded_value", unknown_value=np.nan, min_frequency=20,
                encoded_missing_value=np.nan, max_categories=3,
            ),
            [*TEXTS, "owner", "rooms"],
        ),
        ("passthrough", NUMBERS),
        last=DecisionTreeClassifier(),
    ),
    "empty columns kept": of_columns(
        (
            imputed(StandardScaler(), add_indicator=True, keep_empty_features=True),
            [*NUMBERS, "void"],
        )
    ),
    "dense encoder, then scaled": of_columns(
        (make_pipeline(one_hot(sparse_output=False), StandardScaler()), TEXTS), SCALED
    ),
    "gaps noted": of_columns((imputed(StandardScaler(), add_indicator=True), NUMBERS)),
    "clipped, then scaled": of_columns(
        (imputed(MinMaxScaler(clip=True)), NUMBERS),
        last=make_pipeline(StandardScaler(), logistic())
    ),
    "nested": of_columns(
        (
            make_column_transformer(
                (imputed(), ["size", "age m²"]), (FunctionTransformer(), ["rooms"])
            ),
            NUMBERS,
        ),
        ENCODED,
    ),
    "columns by place": of_columns((imputed(), [0, 1]), (one_hot(), slice(6, 8))),
    "columns by mask": of_columns((StandardScaler(), [n in (0, 2) for n in range(14)])),
    "numbers of pandas": of_columns(
        (imputed(StandardScaler()), ["count", "size"]),
        (imputed(strategy="constant", fill_value=0.0), ["small", "age m²"]),
        (MinMaxScaler(), ["yes"]),
        last=DecisionTreeClassifier(),
    ),
    "one column": of_columns((StandardScaler(with_mean=False), ["size"]), (one_hot(), ["kind"])),
}  # fmt: skip
PARTLY: dict[str, Any] = {
    "a sparse matrix, then scaled": of_columns(
        SCALED, ENCODED, last=make_pipeline(MaxAbsScaler(), logistic()), sparse_threshold=1.0
    ),
    "a step between": make_pipeline(*of_columns(SCALED, ENCODED)[:-1], PCA(3), logistic()),
    "an unknown part": of_columns(
        (FunctionTransformer(np.square), ["size", "rooms"]),
        SCALED,
        (PolynomialFeatures(), ["size", "rooms"]), (CountVectorizer(), "kind")
    ),
    "an unknown last step": of_columns(SCALED, ENCODED, last=SVC(kernel="linear")),
    "a first step of one's own": make_pipeline(
        FunctionTransformer(lambda table: table[NUMBERS].fillna(0)), StandardScaler(), logistic()
    ),
    "a search": GridSearchCV(of_columns(SCALED, ENCODED), {"logisticregression__C": [1.0]}, cv=2),
    "weights": of_columns(SCALED, ENCODED),
    "a named first step": Pipeline([("none", None), ("pass", "passthrough"), ("x", logistic())]),
}  # fmt: skip
PARTLY["weights"][0].transformer_weights = {"pipeline-1": 0.5}
PARTLY["a named first step"] = make_pipeline(
    "passthrough", make_column_transformer(SCALED), None, logistic()
)
TABLES = {
    "the rest passed": FRAME[["size", "rooms", "floor", "kind", "street"]],
    "numbers of pandas": FRAME.assign(
        small=FRAME["age m²"].round().astype("Int8"),
        yes=pd.array([None, True, False] * 20, dtype="boolean"),
    ),
    "empty columns kept": FRAME.assign(void=np.nan),
}
CASES = {
    name: fitted(model, TABLES.get(name, FRAME)) for name, model in {**KNOWN, **PARTLY}.items()
}


def fast(case: Case) -> Any:
    return fast_for(case.model, case.to_table, case.card.features, case.card.columns)


def ordinary(case: Case, X: Any) -> Any:
    table = case.to_table(X)
    has_proba = hasattr(case.model, "predict_proba")
    return case.model.predict(table), case.model.predict_proba(table) if has_proba else None


def bits(values: Any) -> Any:
    return None if values is None else (values.dtype, values.shape, values.tolist())


def assert_same(case: Case, X: Any) -> None:
    """The same answers, or an error where scikit-learn has one."""
    try:
        y, proba = ordinary(case, X)
    except Exception:
        with pytest.raises(Exception):  # noqa: B017, PT011
            fast(case).compute(X)
        return
    try:
        found = fast(case).compute(X)
    except NotCovered:
        return
    assert (bits(found[0]), bits(found[1])) == (bits(y), bits(proba))


@pytest.mark.parametrize("name", CASES)
@given(data=st.data())
@settings(max_examples=25)
def test_the_answers_are_those_of_scikit_learn(name: str, data: Any) -> None:
    assert_same(CASES[name], data.draw(rows_for(CASES[name].card)))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rows", [1, 2, 60])
def test_rows_of_the_training_data_take_the_fast_path(name: str, rows: int) -> None:
    case = CASES[name]
    X = training_rows(case, TABLES.get(name, FRAME))[:rows]
    y, proba = fast(case).compute(X)
    expected = ordinary(case, X)
    assert (bits(y), bits(proba)) == (bits(expected[0]), bits(expected[1]))
    if rows == 1 and fast(case).compute_one is not None:
        label, found = fast(case).compute_one(X)
        assert ([label], [found]) == (y.tolist(), proba.tolist())


def matrix_of(case: Case) -> Any:
    *steps, _ = _steps_of(case.model)
    stages = _stages(steps, root(case.model, case.card.features, case.card.columns, case.to_table))
    return to_matrix(stages[-1]) if len(stages) > len(steps) else None


def assert_same_sparse(made: Any, expected: Any) -> None:
    assert type(made) is type(expected)
    for name in ("data", "indices", "indptr"):
        assert bits(getattr(made, name)) == bits(getattr(expected, name))


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("rows", [1, 60])
def test_the_last_step_gets_the_same_array_in_the_same_order(name: str, rows: int) -> None:
    case = CASES[name]
    X = training_rows(case, TABLES.get(name, FRAME))[:rows]
    made = matrix_of(case).make(X)
    expected = case.to_table(X)
    for step in _steps_of(case.model)[:-1]:
        expected = step.transform(expected)
    if matrix_of(case).is_sparse:
        assert_same_sparse(as_scikit_learn(matrix_of(case))(X), expected)
        expected = expected.toarray()
    assert (made.dtype, made.tobytes()) == (np.float64, expected.tobytes())
    assert (made.flags.c_contiguous, made.flags.f_contiguous) == (
        expected.flags.c_contiguous,
        expected.flags.f_contiguous,
    )


NUMERIC = FRAME[["size", "rooms", "floor", "ratio"]]
OBJECTS = FRAME[["size", "kind", "owner", "rooms"]].to_numpy(dtype=object)
WHOLE = FRAME[["rooms", "floor"]].to_numpy()
HOLES = FRAME[["size", "age m²"]].to_numpy()
OF_TABLES: dict[str, Any] = {
    "numbers of a frame": (make_pipeline(StandardScaler(), logistic()), NUMERIC),
    "a model alone on a frame": (logistic(), NUMERIC[["size", "rooms", "floor"]]),
    "a model alone on short floats": (logistic(), FRAME[["ratio"]]),
    "a tree alone on a frame with gaps": (DecisionTreeClassifier(), FRAME[["size", "age m²"]]),
    "an array": (make_pipeline(StandardScaler(), logistic()), NUMERIC.to_numpy(dtype=float)),
    "an array of whole numbers": (make_pipeline(RobustScaler(), logistic()), WHOLE),
    "an array with gaps": (imputed(StandardScaler(), logistic()), HOLES),
    "an array of short floats": (imputed(logistic()), NUMERIC.to_numpy(dtype="float32")),
    "an array of objects": (
        of_columns((imputed(), [0]), (one_hot(), [1, 2]), (StandardScaler(), [3])), OBJECTS,
    ),
    "an array of objects, partly passed": (
        of_columns((one_hot(), [1, 2]), remainder="passthrough"), OBJECTS,
    ),
}  # fmt: skip
OTHERS = {name: fitted(model, table) for name, (model, table) in OF_TABLES.items()}


@pytest.mark.parametrize("name", OTHERS)
@given(data=st.data())
@settings(max_examples=25)
def test_the_answers_for_other_tables_are_those_of_scikit_learn(name: str, data: Any) -> None:
    case = OTHERS[name]
    if fast(case).compute is not None:
        assert_same(case, data.draw(rows_for(case.card)))


OF_SCIKIT_LEARN = (
    "a model alone on short floats",
    "an array of short floats",
    "an array of objects, partly passed",
)


@pytest.mark.parametrize("name", OTHERS)
def test_other_tables_take_the_fast_path_where_their_floats_are_long(name: str) -> None:
    case = OTHERS[name]
    X = training_rows(case, OF_TABLES[name][1])
    if name in OF_SCIKIT_LEARN:
        assert matrix_of(case) is None
        return
    y, proba = fast(case).compute(X)
    assert (bits(y), bits(proba)) == tuple(map(bits, ordinary(case, X)))


class OwnScaler(StandardScaler):  # type: ignore[misc]
    """Doubles what the scaler makes."""

    def transform(self, X: Any, copy: bool | None = None) -> Any:
        return 2 * super().transform(X, copy)


def patched(model: Any) -> Any:
    scaler = model[0].named_transformers_["pipeline-1"][-1]
    scaler.transform = lambda X: X * 0
    return model


def test_a_step_of_ones_own_is_asked_itself() -> None:
    own = fitted(of_columns((OwnScaler(), ["size"]), ENCODED), FRAME)
    replaced = fitted(of_columns(SCALED, ENCODED), FRAME)
    patched(replaced.model)
    for case in (own, replaced):
        X = training_rows(case, FRAME)
        assert bits(fast(case).compute(X)[1]) == bits(ordinary(case, X)[1])


def test_a_pipeline_of_data_frames_is_left_to_scikit_learn() -> None:
    scaled = make_pipeline(StandardScaler(), logistic()).set_output(transform="pandas")
    case = fitted(scaled, NUMERIC)
    X = training_rows(case, NUMERIC)
    assert bits(fast(case).compute(X)[1]) == bits(ordinary(case, X)[1])
    plain = CASES["scaled and encoded"]
    with sklearn.config_context(transform_output="pandas"):
        assert fast(plain) == (None, None)


def test_the_rows_are_transformed_once_for_labels_and_probabilities() -> None:
    calls: list[int] = []

    def counted(table: Any) -> Any:
        calls.append(len(table))
        return table[NUMBERS].fillna(0)

    case = fitted(make_pipeline(FunctionTransformer(counted), SVC()), FRAME)
    assert fast(case).compute is None  # it predicts labels alone, so the rows are transformed once
    case = fitted(make_pipeline(FunctionTransformer(counted), logistic()), FRAME)
    calls.clear()
    predictor(case.model, case.card)(training_rows(case, FRAME)[:3])
    assert calls == [3]


def test_an_error_is_the_one_of_scikit_learn() -> None:
    case = CASES["a dropped category"]
    X = training_rows(case, FRAME)[:1]
    X[0, list(FRAME).index("kind")] = "tent"
    with pytest.raises(NotCovered):
        fast(case).compute(X)
    with pytest.raises(PredictError, match=r"Found unknown categories \['tent'\] in column 1"):
        predictor(case.model, case.card)(X)


def test_a_wide_sparse_matrix_is_left_to_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["a sparse matrix for a tree"]
    monkeypatch.setattr(known_steps, "MAX_CELLS", 100)
    with pytest.raises(NotCovered):
        fast(case).compute(training_rows(case, FRAME))
    assert fast(case).compute(training_rows(case, FRAME)[:2]) is not None
