"""A model is served by its kind, or refused when it is saved, with a sentence."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from lightgbm import LGBMRanker
from sklearn.base import BaseEstimator
from sklearn.cluster import DBSCAN, KMeans
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from xgboost import XGBRanker

from model import artifact, estimator
from model.errors import ArtifactError
from model.predict import Prediction, matrix, predict_together, predictor
from model.train import describe, make_card

X = np.random.default_rng(0).normal(size=(60, 2))
FAR = [[0.0, 0.1], [50.0, -50.0], [0.2, 0.0]]
DETECTORS = [
    IsolationForest(n_estimators=5, random_state=0),
    OneClassSVM(),
    LocalOutlierFactor(n_neighbors=5, novelty=True),
    EllipticEnvelope(random_state=0),
    make_pipeline(StandardScaler(), OneClassSVM()),
]


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: type(d).__name__)
def test_an_outlier_detector_answers_with_a_score(tmp_path: Path, detector: Any) -> None:
    model = detector.fit(X)
    card = artifact.save(model, make_card("odd", model, describe(X, ["a", "b"])), tmp_path / "m")
    assert (card.kind, card.score, card.output) == ("outlier_detector", True, "integer")
    answers = predictor(*artifact.load(tmp_path / "m"))(matrix(FAR, numeric=True))
    scores = model.decision_function(FAR).tolist()
    assert answers == Prediction(model.predict(FAR).tolist(), None, scores)
    assert answers.y == [1, -1, 1]
    assert [score < 0 for score in scores] == [False, True, False]


class Plain(BaseEstimator):  # type: ignore[misc]
    """Says nothing of its kind."""

    def fit(self, rows: Any, _y: Any = None) -> Self:
        self.n_features_in_ = np.asarray(rows).shape[1]
        return self

    def predict(self, rows: Any) -> Any:
        return np.asarray(rows)[:, 0]


def test_an_estimator_that_says_nothing_of_its_kind_is_a_regressor() -> None:
    model = Plain().fit(X)
    assert (estimator.kind_of(model), estimator.fault(model)) == ("regressor", None)


GROUPS = {"group": [30, 30]}
RANKS = np.arange(60) % 3
ONLY = "only classifiers, regressors and outlier detectors are served"


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (KMeans(2, n_init=1).fit(X), f"it holds a KMeans, which finds clusters; {ONLY}"),
        (
            make_pipeline(StandardScaler(), KMeans(2, n_init=1)).fit(X),
            f"it holds a KMeans, which finds clusters; {ONLY}",
        ),
        (
            DBSCAN().fit(X),
            f"it holds a DBSCAN, which labels only the rows that it was fitted on; {ONLY}",
        ),
        (
            LocalOutlierFactor(n_neighbors=5).fit(X),
            "it holds a LocalOutlierFactor, which labels only the rows that it was fitted on; "
            f"{ONLY}",
        ),
        (PCA().fit(X), f"it holds a PCA, which transforms rows and predicts nothing; {ONLY}"),
        (
            make_pipeline(StandardScaler(), PCA()).fit(X),
            f"it holds a PCA, which transforms rows and predicts nothing; {ONLY}",
        ),
        (
            LGBMRanker(n_estimators=1, verbose=-1).fit(X, RANKS, **GROUPS),
            f"it holds a LGBMRanker, which ranks the rows of a group; {ONLY}",
        ),
        (
            XGBRanker(n_estimators=1).fit(X, RANKS, **GROUPS),
            f"it holds a XGBRanker, which ranks the rows of a group; {ONLY}",
        ),
        (
            LinearRegression().fit(X, X),
            "it returns several values for a row; save one model for each value",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_another_kind_is_refused_when_it_is_saved(
    tmp_path: Path, model: Any, sentence: str
) -> None:
    path = tmp_path / "m.joblib"
    with pytest.raises(ArtifactError) as refused:
        artifact.save(model, make_card("other", model, describe(X, ["a", "b"])), path)
    assert str(refused.value) == f"{path} cannot be served: {sentence}"
    assert list(tmp_path.iterdir()) == []


def test_a_search_is_what_it_found() -> None:
    search = GridSearchCV(KMeans(n_init=1), {"n_clusters": [2]}).fit(X)
    assert estimator.fault(search) == f"it holds a KMeans, which finds clusters; {ONLY}"


def test_the_scores_of_several_callers_are_their_own() -> None:
    model = OneClassSVM().fit(X)
    predict = predictor(model, make_card("odd", model, describe(X, ["a", "b"])))
    [joint] = predict_together(predict, matrix(FAR, numeric=True), [1, 2])
    assert joint.outcome == predict(matrix(FAR, numeric=True))
