"""Cross-validation of a model beside a trivial one."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
)
from sklearn.model_selection import KFold, StratifiedKFold

from model.training.columns import Columns
from model.training.estimators import fit
from model.training.target import Target

MAX_FOLDS = 5

Array = np.ndarray[Any, Any]
Progress = Callable[[int, int], None]


class Score(NamedTuple):
    """One measure in each fold, of the model and of the baseline; which is better: more or less."""

    name: str
    model: Array
    baseline: Array
    more_is_better: bool = True

    @property
    def is_better(self) -> bool:
        """Whether the model is better than the baseline, by more than chance may explain."""
        gain = self.model - self.baseline if self.more_is_better else self.baseline - self.model
        return bool(gain.mean() > gain.std())


class Evaluation(NamedTuple):
    """The scores, the first of which decides; what the baseline answers."""

    folds: int
    baseline: str
    scores: tuple[Score, ...]

    @property
    def is_better(self) -> bool:
        """Whether the model is better than the baseline by one of the scores."""
        return any(score.is_better for score in self.scores)

    @property
    def metrics(self) -> dict[str, float]:
        """Mean and standard deviation of each score, for a model card."""
        found = {}
        for score in self.scores:
            found[f"{score.name}_mean"] = float(score.model.mean())
            found[f"{score.name}_std"] = float(score.model.std())
            found[f"baseline_{score.name}_mean"] = float(score.baseline.mean())
        return found


def evaluate(
    model: Any, columns: Columns, target: Target, seed: int, progress: Progress
) -> Evaluation:
    """Cross-validate an unfitted model with shuffled folds, of classes stratified ones."""
    splits = list(_splits(target, seed))
    is_classifier = target.task == "classification"
    dummy = DummyClassifier() if is_classifier else DummyRegressor()
    measure = _of_classes if is_classifier else _of_numbers
    found: list[list[dict[str, float]]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a fold that lacks a rare category
        for n, (train, test) in enumerate(splits):
            progress(n, len(splits) + 1)
            X, y = columns.X.iloc[train], target.y[train]
            fitted = [fit(each, X, y) for each in (model, dummy)]
            tested = columns.X.iloc[test], target.y[test]
            found.append([measure(each, *tested) for each in fitted])
    progress(len(splits), len(splits) + 1)
    return Evaluation(len(splits), _answer(target), tuple(_scores(found)))


def _answer(target: Target) -> str:
    if target.task == "regression":
        return f"always the mean, {target.y.mean():.6g}"
    labels, counts = np.unique(target.y, return_counts=True)
    return f"always {labels[counts.argmax()]}"


def _splits(target: Target, seed: int) -> Iterator[tuple[Array, Array]]:
    if target.task == "regression":
        folds: Any = KFold(MAX_FOLDS, shuffle=True, random_state=seed)
    else:
        least = int(np.unique(target.y, return_counts=True)[1].min())
        folds = StratifiedKFold(min(MAX_FOLDS, least), shuffle=True, random_state=seed)
    yield from folds.split(target.y, target.y)


def _of_classes(model: Any, X: Any, y: Array) -> dict[str, float]:
    found = model.predict(X)
    scores = {
        "accuracy": float(accuracy_score(y, found)),
        "balanced_accuracy": float(balanced_accuracy_score(y, found)),
    }
    if len(model.classes_) == 2:
        scores["roc_auc"] = float(roc_auc_score(y, model.predict_proba(X)[:, 1]))
    return scores


def _of_numbers(model: Any, X: Any, y: Array) -> dict[str, float]:
    found = model.predict(X)
    return {"r2": float(r2_score(y, found)), "mae": float(mean_absolute_error(y, found))}


def _scores(found: list[list[dict[str, float]]]) -> Iterator[Score]:
    for name in found[0][0]:
        model, baseline = (np.array([fold[n][name] for fold in found]) for n in (0, 1))
        yield Score(name, model, baseline, more_is_better=name != "mae")
