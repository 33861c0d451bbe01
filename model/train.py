"""Train the example model, iris: it classifies flowers of three species by four lengths."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_val_score

from model import artifact
from model import card as cards
from model.card import EXAMPLE, EXAMPLE_CREATOR, Card, Feature
from model.errors import ArtifactError, CardError
from model.estimator import has_score, kind_of
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


def describe(X: Any, names: Sequence[str] | None = None, unit: str = "") -> list[Feature]:
    """The features of a table of shape (rows, features): an array, lists or a DataFrame.

    Give it the training data: a feature gets the type, the dtype and the range of its column, and
    what stands for a missing value. A pandas column of categories has these categories. A column
    that contains NaN or None becomes a nullable feature. Without `names` the columns of the
    DataFrame name the features. Raises CardError.
    """
    columns = _columns(X)
    names = getattr(X, "columns", None) if names is None else names
    if names is None or len(names) != len(columns):
        given = "no" if names is None else len(names)
        raise CardError(f"the table has {len(columns)} columns, and there are {given} names")
    return [
        describe_column(str(name), each, unit) for name, each in zip(names, columns, strict=True)
    ]


def _columns(X: Any) -> list[Any]:
    """The columns of a table, each as a one-dimensional array or as a pandas Series."""
    if hasattr(X, "columns"):
        return [X.iloc[:, n] for n in range(X.shape[1])]
    table = X if isinstance(X, np.ndarray) else np.array(X, dtype=object)
    if table.ndim != 2:
        raise CardError(f"a table has the shape (rows, features), this one has {table.shape}")
    if table is not X and np.array(X).dtype.kind in "biuf":  # as scikit-learn reads lists
        table = np.array(X)
    return list(table.T)


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
    metrics: Mapping[str, float] | None = None,
    seed: int | None = None,
) -> Card:
    """The card of a fitted classifier, regressor or outlier detector, for `artifact.save`.

    Raises CardError for a value that a card cannot hold.
    """
    made = Card(
        name=name,
        kind=kind_of(model),
        features=tuple(features),
        classes=classes(model),
        proba=hasattr(model, "predict_proba"),
        score=has_score(model),
        metrics=dict(metrics or {}),
        libraries={},
        seed=seed,
        sha256=UNSAVED,
    )
    return cards.plain(made)


def train(seed: int) -> tuple[Any, Card]:
    """Fit the example on all rows. Returns (model, card), the same for the same seed."""
    data = load()
    scores = evaluate(estimator(seed), data, seed).accuracy
    model = estimator(seed).fit(data.X, data.y)
    metrics = {"accuracy_mean": scores.mean(), "accuracy_std": scores.std()}
    card = make_card(EXAMPLE, model, data.features, metrics, seed)
    return model, msgspec.structs.replace(card, creator=EXAMPLE_CREATOR)


def check_replaceable(path: Path) -> None:
    """Raise ArtifactError unless the example may be saved at `path`.

    It may where there is nothing, or an artifact that `train` made: its card says so and has its
    digest. Anything else may be somebody's own model.
    """
    if fault := _own_model(path):
        raise ArtifactError(f"{path} {fault}; choose another path with --output")


def _own_model(path: Path) -> str | None:
    """Why what lies at `path` may be somebody's own model, or None."""
    if not os.path.lexists(path) and not os.path.lexists(cards.card_path(path)):
        return None
    try:
        card = cards.read(path)
        found = artifact.digest(cards.read_file(path)) if os.path.lexists(path) else card.sha256
    except CardError:
        return "may be a model of your own, because it has no card that can be read"
    except OSError as e:
        return f"cannot be read ({e.strerror})"
    if card.name != EXAMPLE:
        return f"holds another model, {card.name}"
    if not card.is_example or not (card.creator or _is_reproducible(card)):
        return f"holds a model named {EXAMPLE} that `petal train` did not make"
    return None if found == card.sha256 else "is not the file that its card describes"


def _is_reproducible(card: Card) -> bool:
    """Whether `train` makes the artifact of this card; True if other versions made it."""
    if card.libraries != artifact.libraries() or card.seed is None:
        return True
    model, _ = train(card.seed)
    return artifact.digest(artifact.dump(model)) == card.sha256
