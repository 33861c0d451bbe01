"""Train the example model, iris: it classifies flowers of three species by four lengths."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import is_classifier
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_val_score

from model.card import Card, Feature
from model.kinds import describe_column
from model.predict import classes

UNSAVED = "0" * 64  # the digest in a card before its artifact is saved


class Dataset(NamedTuple):
    """`X` of shape (rows, features) and `y` of shape (rows,)."""

    X: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]
    features: list[Feature]


class Evaluation(NamedTuple):
    """Accuracy of each cross-validation fold; the confusion matrix, true class by row."""

    accuracy: np.ndarray[Any, Any]
    confusion: np.ndarray[Any, Any]


def load() -> Dataset:
    """Fisher's iris data from scikit-learn: 150 flowers, lengths in cm, names of species."""
    bunch = load_iris()
    X = bunch.data
    names = [n.removesuffix(" (cm)").replace(" ", "_") for n in bunch.feature_names]
    return Dataset(X, bunch.target_names[bunch.target], describe(X, names, unit="cm"))


def describe(X: Any, names: Sequence[str] = (), unit: str = "") -> list[Feature]:
    """The features of the training data `X`, a DataFrame or an array of shape (rows, features).

    Each has the type and the range of its column, and what stands for a missing value in it; a
    column with a missing value is nullable. The names may be left out for a DataFrame. Raises
    ValueError for a column that no row in JSON can have.
    """
    is_frame = hasattr(X, "columns")
    columns = [X.iloc[:, n] for n in range(X.shape[1])] if is_frame else list(np.asarray(X).T)
    known = [str(name) for name in names] or [str(name) for name in getattr(X, "columns", ())]
    return [
        describe_column(name, column, unit) for name, column in zip(known, columns, strict=True)
    ]


def estimator(seed: int) -> Any:
    """The unfitted example, a logistic regression."""
    return LogisticRegression(max_iter=1000, random_state=seed)


def evaluate(model: Any, data: Dataset, seed: int, folds: int = 5) -> Evaluation:
    """Cross-validate an unfitted classifier with stratified, shuffled folds."""
    cv = StratifiedKFold(folds, shuffle=True, random_state=seed)
    accuracy = cross_val_score(model, data.X, data.y, cv=cv)
    predicted = cross_val_predict(model, data.X, data.y, cv=cv)
    return Evaluation(accuracy, confusion_matrix(data.y, predicted))


def make_card(
    name: str,
    model: Any,
    features: list[Feature],
    metrics: dict[str, float] | None = None,
    seed: int | None = None,
) -> Card:
    """The card of a fitted classifier or regressor, to give to `artifact.save`."""
    return Card(
        name=name,
        kind="classifier" if is_classifier(model) else "regressor",
        features=tuple(features),
        classes=classes(model),
        proba=hasattr(model, "predict_proba"),
        metrics=metrics or {},
        libraries={},
        seed=seed,
        sha256=UNSAVED,
    )


def train(seed: int) -> tuple[Any, Card]:
    """Fit the example on all rows. Returns (model, card), the same for the same seed."""
    data = load()
    scores = evaluate(estimator(seed), data, seed).accuracy
    model = estimator(seed).fit(data.X, data.y)
    metrics = {"accuracy_mean": float(scores.mean()), "accuracy_std": float(scores.std())}
    return model, make_card("iris", model, data.features, metrics, seed)
