"""An imported model answers as it did before, and its card says what it was fitted on."""

from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRanker
from msgspec.structs import replace
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder, StandardScaler
from xgboost import XGBClassifier, XGBRanker, XGBRegressor

from model import artifact
from model import card as cards
from model.card import Feature
from model.errors import ArtifactError, SourceError
from model.importing.imported import Imported, check_replaceable, make, save
from model.predict import matrix, predictor
from model.sources.folders import read
from model.sources.opened import Opened
from model.sources.source import Source
from model.trial import sample_rows
from tests.model.importing import rent

LGBM: Any = {"n_estimators": 3, "verbose": -1, "min_child_samples": 1}


def source(model: Any, *features: Feature, sample: Any = None) -> Source:
    return Source(Path("mine.joblib"), Opened(model), "mine", features, sample)


def imported(model: Any, table: Any = None, *dropped: str) -> Imported:
    return make(source(model), table, "mine", dropped)


def as_csv(table: pd.DataFrame, path: Path) -> Any:
    """The table as a CSV file gives it: without pandas' categories, with numbers for codes."""
    table.to_csv(path, index=False)
    return pd.read_csv(path)


def test_the_card_is_what_the_training_data_show() -> None:
    flats = rent.table()
    card = imported(rent.regressor(), flats.dropna()).card
    area, rooms = flats.dropna()["living area"], flats["rooms"]
    assert [replace(f, minimum=None, maximum=None) for f in card.features] == [
        Feature(name="living area", type="integer"),
        Feature(name="kind", type="text", dtype="str", categories=rent.KINDS),
        Feature(name="postcode", type="text", dtype="str", categories=rent.POSTCODES),
        Feature(name="rooms"),
        Feature(name="new", type="boolean"),
    ]
    assert (card.features[0].minimum, card.features[0].maximum) == (area.min(), area.max())
    assert (card.features[3].minimum, card.features[3].maximum) == (rooms.min(), rooms.max())
    assert (card.kind, card.name, card.creator) == ("regressor", "mine", "petal import")


def test_the_sample_may_have_other_columns_in_another_order(tmp_path: Path) -> None:
    flats = rent.table()[["size", "new", "rooms", "postcode", "kind", "id", "living area"]]
    made = imported(rent.classifier(), as_csv(flats, tmp_path / "flats.csv"))
    assert made.card.names == rent.COLUMNS
    assert made.passed_over == ("size", "id")
    assert [f.type for f in made.card.features] == ["integer", "text", "text", "number", "boolean"]
    expected = rent.classifier().predict(flats[rent.COLUMNS].head(1))
    assert (made.row, made.prediction.y) == (sample_rows(flats[rent.COLUMNS].head(1))[0], expected)


def test_what_an_imputer_fills_may_be_missing() -> None:
    made = imported(rent.classifier(), rent.table().dropna())
    assert all(feature.nullable for feature in made.card.features)
    unfilled = imported(rent.regressor(), rent.table().dropna())
    assert not any(feature.nullable for feature in unfilled.card.features)


def test_rows_that_lack_what_the_model_needs_are_left_out() -> None:
    made = imported(rent.regressor(), rent.table())
    assert (made.needed, made.left_out, made.rows) == (("kind", "rooms"), 2, 60)
    assert not any(feature.nullable for feature in made.card.features)


def test_an_encoder_that_ignores_the_unknown_allows_any_text() -> None:
    open_, closed = (
        imported(rent.classifier(handle), rent.table()).card for handle in ("ignore", "error")
    )
    assert (open_.features[1].categories, open_.features[1].seen) == ((), rent.KINDS)
    assert (closed.features[1].categories, closed.features[1].seen) == (rent.KINDS, ())


def test_an_encoder_of_numbers_that_fails_for_the_unknown_limits_them() -> None:
    wine = load_wine(as_frame=True).frame.assign(year=[2019, 2020] * 89)
    columns = make_column_transformer((OrdinalEncoder(), ["year"]), remainder="passthrough")
    model = make_pipeline(columns, Ridge()).fit(wine[["year", "hue"]], wine["alcohol"])
    assert imported(model, wine).card.features[0].categories == (2019, 2020)


def test_an_outlier_detector_has_a_score() -> None:
    detector = IsolationForest(n_estimators=3, random_state=0).fit(BREAST.data)
    made = imported(detector, BREAST.frame)
    assert (made.card.kind, made.card.score) == ("outlier_detector", True)
    assert made.prediction.y == detector.predict(BREAST.data.head(1)).tolist()
    assert made.prediction.score == detector.decision_function(BREAST.data.head(1)).tolist()


def test_missing_columns_are_named_with_what_was_meant() -> None:
    flats = rent.table().drop(columns=["rooms"]).rename(columns={"kind": "Kind "})
    with pytest.raises(SourceError) as caught:
        imported(rent.classifier(), flats)
    assert str(caught.value) == (
        "the sample lacks 'kind', 'rooms', which the model takes; it has 'id', 'living area', "
        "'Kind ', 'postcode', 'new', 'size'. Rename 'Kind ' to 'kind' if it is meant"
    )


def test_an_array_has_no_names_so_that_the_user_drops_what_is_too_much() -> None:
    wine = load_wine(as_frame=True)
    model = RidgeClassifier().fit(wine.data.to_numpy(), wine.target)
    with pytest.raises(SourceError, match=r"takes 13 columns .* has 14.* --drop target"):
        imported(model, wine.frame)
    with pytest.raises(SourceError, match=r"takes 13 columns .* has 2: 'hue', 'ash'"):
        imported(model, wine.data[["hue", "ash"]])
    with pytest.raises(SourceError, match="no column 'colour' to leave out"):
        imported(model, wine.frame, "colour")
    assert imported(model, wine.frame, "target").card.names == list(wine.data.columns)


class Area(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A step that needs a DataFrame, and records neither names nor number of its columns."""

    def fit(self, X: Any, y: Any = None) -> Any:
        self.fitted_ = True
        return self

    def transform(self, X: Any) -> Any:
        return X[["living area"]]


def test_dates_of_a_text_file_are_datetimes_where_the_model_needs_them(tmp_path: Path) -> None:
    days = pd.date_range("2001-01-01", periods=20, freq="W")
    flats = pd.DataFrame({"built": days, "note": [f"{day:%Y-%m-%d}" for day in days]})
    years = make_column_transformer((FunctionTransformer(year_of), ["built"]))
    model = make_pipeline(years, LinearRegression()).fit(flats, np.arange(20.0))
    made = imported(model, as_csv(flats, tmp_path / "flats.csv"))
    built = made.card.features[0]
    assert (built.type, built.earliest, built.latest) == ("datetime", "2001-01-07", "2001-05-20")
    assert made.prediction.y == pytest.approx(model.predict(flats.head(1)))
    unread = as_csv(flats.assign(built="last May"), tmp_path / "flats.csv")
    with pytest.raises(SourceError, match=r"built: 'last May'.*Can only use \.dt accessor"):
        imported(model, unread)


def year_of(frame: Any) -> Any:
    return frame.apply(lambda column: column.dt.year)


def test_a_model_that_records_no_columns_gets_those_of_the_sample() -> None:
    flats = rent.table()
    model = make_pipeline(Area(), LinearRegression()).fit(flats, flats["living area"])
    made = imported(model, flats, "size")
    assert (made.card.names, made.is_certain) == (["id", *rent.COLUMNS], False)
    assert made.card.frame
    assert imported(rent.classifier(), flats).is_certain
    with pytest.raises(SourceError, match="does not record which columns it takes"):
        imported(model)


def test_without_a_sample_numbers_and_categories_are_known_and_the_rest_is_refused() -> None:
    wine = load_wine()
    made = imported(RidgeClassifier().fit(wine.data, wine.target))
    assert made.card.names == [f"x{n}" for n in range(13)]
    assert made.rows == 0
    types = [(f.name, f.type) for f in imported(rent.classifier()).card.features]
    assert types[:3] == [("living area", "number"), ("kind", "text"), ("postcode", "text")]
    upper = FunctionTransformer(lambda frame: frame.assign(kind=frame["kind"].str.upper()))
    model = make_pipeline(upper, rent.classifier()).fit(
        rent.table()[rent.COLUMNS], rent.table()["size"]
    )
    with pytest.raises(SourceError, match=r"--data sample\.csv"):
        imported(model)


def test_a_signature_decides_types_and_gaps_and_an_example_gives_no_range() -> None:
    flats = rent.table()[rent.COLUMNS]
    signed = (
        Feature(name="living area"), Feature(name="kind", type="text"),
        Feature(name="postcode", type="text"), Feature(name="rooms", nullable=True),
        Feature(name="new", type="boolean"),
    )  # fmt: skip
    model = rent.classifier()
    made = make(source(model, *signed, sample=flats.head(2)), None, "mine")
    found = [(f.name, f.type, f.nullable, f.minimum) for f in made.card.features]
    assert found == [(f.name, f.type, f.nullable, None) for f in signed]
    with_data = make(source(model, *signed, sample=flats.head(2)), flats.dropna(), "mine").card
    assert with_data.features[0].type == "number"
    assert with_data.features[0].minimum == flats.dropna()["living area"].min()


BREAST, DIABETES, DIGITS = (
    load(as_frame=True) for load in (load_breast_cancer, load_diabetes, load_digits)
)
MALIGN = BREAST.target.map({0: "malign", 1: "benign"})
SERVED = {
    "search": GridSearchCV(
        make_pipeline(StandardScaler(), RidgeClassifier()), {"ridgeclassifier__alpha": [1, 2]}, cv=2
    ),
    "forest": RandomForestClassifier(3, random_state=0),
    "lightgbm": LGBMClassifier(**LGBM),
    "own target": TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
}


@pytest.mark.parametrize("model", SERVED.values(), ids=SERVED)
def test_models_of_real_tables_answer_as_before(model: Any, tmp_path: Path) -> None:
    X, y = (DIABETES.data, DIABETES.target)
    if not isinstance(model, TransformedTargetRegressor):
        X, y = BREAST.data, MALIGN
    model.fit(X, y)
    joblib.dump(model, tmp_path / "mine.joblib")
    table = as_csv(X.assign(target=y), tmp_path / "table.csv")
    made = make(read(tmp_path / "mine.joblib", trust=True), table, "mine")
    card = save(made, tmp_path / "served.joblib")
    served = artifact.load(tmp_path / "served.joblib")
    answer = predictor(served.model, card)(matrix(sample_rows(X), card.numeric))
    if card.kind == "regressor":
        assert np.allclose(answer.y, model.predict(X), rtol=1e-12)
    else:
        assert answer.y == model.predict(X).tolist()
    if card.proba:
        assert answer.proba == model.predict_proba(X).tolist()


def test_xgboost_is_served_for_digits() -> None:
    model = XGBClassifier(n_estimators=2, max_depth=2).fit(DIGITS.data, DIGITS.target)
    made = imported(model, DIGITS.frame)
    assert (made.card.classes, made.passed_over) == (tuple(range(10)), ("target",))
    assert made.prediction.y == model.predict(DIGITS.data.head(1)).tolist()


@pytest.mark.parametrize(
    "model",
    [
        LGBMClassifier(**LGBM),
        XGBRegressor(n_estimators=2, enable_categorical=True),
        HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_categories_of_pandas_are_found_in_boosters(model: Any, tmp_path: Path) -> None:
    flats = rent.table(200)
    X = flats[rent.COLUMNS].astype({"kind": "category", "postcode": "category"})
    model.fit(X, flats["living area"] > 100)
    made = imported(model, as_csv(flats, tmp_path / "flats.csv"))
    kinds = [(f.type, f.dtype, f.categories) for f in made.card.features[1:3]]
    assert kinds == [("text", "category", ())] * 2
    rows = sample_rows(flats[rent.COLUMNS].head(50))
    answers = predictor(model, made.card)(matrix(rows, numeric=False)).y
    assert answers == model.predict(X.head(50)).tolist()


def test_functions_of_a_program_are_served_from_cloudpickle(tmp_path: Path) -> None:
    flats = rent.table()
    model = make_pipeline(FunctionTransformer(lambda X: X[["living area"]] * 2), LinearRegression())
    model.fit(flats[rent.COLUMNS], flats["living area"])
    data = cloudpickle.dumps(model)
    (tmp_path / "mine.pkl").write_bytes(data)
    made = make(read(tmp_path / "mine.pkl", trust=True), flats, "mine", ["id", "size"])
    assert (made.card.names, made.passed_over) == (rent.COLUMNS, ("id", "size"))
    save(made, tmp_path / "served.joblib")
    served = artifact.load(tmp_path / "served.joblib")
    assert (tmp_path / "served.joblib").read_bytes() == data
    assert served.card.frame is made.card.frame
    rows = matrix(sample_rows(flats[rent.COLUMNS]), numeric=False)
    expected = model.predict(flats[rent.COLUMNS])
    assert np.allclose(predictor(*served)(rows).y, expected, rtol=1e-12)


def test_what_is_not_served_is_named_at_the_import() -> None:
    X, y, group = BREAST.data.head(60), [0, 1] * 30, [60]
    clusters = KMeans(2, n_init=1).fit(X)
    models = {"scaler": StandardScaler(), "model": Ridge()}
    for model, sentence in (
        (clusters, "KMeans, which finds clusters"),
        (make_pipeline(StandardScaler(), clusters).fit(X), "KMeans, which finds"),
        (DBSCAN().fit(X), "DBSCAN, which labels only the rows that it was fitted on"),
        (StandardScaler().fit(X), "StandardScaler, which transforms rows"),
        (XGBRanker(n_estimators=1).fit(X, y, group=group), "XGBRanker, which ranks"),
        (LGBMRanker(**LGBM).fit(X, y, group=group), "LGBMRanker, which ranks"),
        (XGBClassifier(n_estimators=1).fit(X, y).get_booster(), "holds a Booster"),
        (Ridge(), "Ridge is not fitted"),
        (Ridge, "holds the class Ridge"),
        (models, "the keys 'scaler', 'model'; save the model at 'model' alone"),
        ([Ridge(), Ridge()], "a list of 2 objects"),
        (X, "an object of type DataFrame"),
        (None, "an object of type NoneType"),
        (Ridge().fit(X, X.iloc[:, :2]), "returns several values for a row"),
        (
            make_pipeline(TfidfVectorizer(), RidgeClassifier()).fit(["a day", "bad"], [0, 1]),
            r"its TfidfVectorizer takes one column of texts.*make_column_transformer",
        ),
    ):
        with pytest.raises(SourceError, match=sentence):
            imported(model, X)


def test_a_sample_that_the_model_cannot_answer_is_named() -> None:
    encoder = make_column_transformer((OrdinalEncoder(), ["kind"]), remainder="drop")
    flats = rent.table().dropna()
    model = make_pipeline(encoder, LinearRegression()).fit(flats[["kind"]], flats["living area"])
    table = pd.DataFrame({"kind": ["flat", "castle"]})
    with pytest.raises(SourceError, match="row 2 of 2, kind: 'castle' is not one of"):
        imported(model, table)
    with pytest.raises(SourceError, match="the sample has no rows"):
        imported(model, table.head(0))
    with pytest.raises(
        SourceError, match=r"does not answer a row of the sample \(kind: 'castle'\)"
    ):
        imported(make_pipeline(FunctionTransformer(flat_only), model), table)


def flat_only(frame: Any) -> Any:
    if (frame["kind"] != "flat").any():
        raise ValueError("flats only")
    return frame


def test_an_import_replaces_only_what_it_made_itself(tmp_path: Path) -> None:
    path = tmp_path / "mine.joblib"
    made = imported(rent.regressor(), rent.table())
    check_replaceable(path, "mine", tmp_path)
    save(made, path)
    check_replaceable(path, "mine", tmp_path)
    with pytest.raises(ArtifactError, match=r"holds another model, mine; .* --output"):
        check_replaceable(path, "other", tmp_path)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ArtifactError, match="not the file that its card describes"):
        check_replaceable(path, "mine", tmp_path)
    artifact.save(made.source.model, replace(made.card, creator=""), path)
    with pytest.raises(ArtifactError, match="named mine that `petal import` did not make"):
        check_replaceable(path, "mine", tmp_path)
    cards.card_path(path).unlink()
    with pytest.raises(ArtifactError, match="may be a model of your own"):
        check_replaceable(path, "mine", tmp_path)
