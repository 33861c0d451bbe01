"""A fast path is for models that are known for certain."""

from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.svm import SVC

from model.fast.families import PROVED, compute_for, compute_one_for
from model.train import load

X, SPECIES = load().X, load().y


def fitted() -> Any:
    return LogisticRegression(max_iter=1000).fit(X, SPECIES)


class Own(LogisticRegression):  # type: ignore[misc]
    """A subclass, which may answer as it likes."""


def test_the_installed_scikit_learn_is_one_that_the_tests_prove() -> None:
    assert sklearn.__version__ in PROVED
    assert compute_for(fitted()) is not None


@pytest.mark.parametrize(
    "model", [Own(max_iter=1000).fit(X, SPECIES), SVC().fit(X, SPECIES), LogisticRegressionCV(), 3]
)
def test_another_class_has_no_fast_path(model: Any) -> None:
    assert compute_for(model) is None
    assert compute_one_for(model) is None


def test_another_class_of_the_same_name_has_no_fast_path() -> None:
    model = fitted()
    model.__class__ = type("LogisticRegression", (LogisticRegression,), {})
    type(model).__module__ = LogisticRegression.__module__
    assert compute_for(model) is None


def test_a_model_that_is_not_fitted_has_no_fast_path() -> None:
    assert compute_for(LogisticRegression()) is None


def test_another_version_of_scikit_learn_has_no_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted()
    monkeypatch.setattr(sklearn, "__version__", "1.8.0")
    assert compute_for(model) is None
    assert compute_one_for(model) is None


def test_a_method_that_was_replaced_has_no_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted()
    model.predict = lambda rows: np.zeros(len(rows))
    assert compute_for(model) is None
    monkeypatch.setattr(LogisticRegression, "predict_proba", lambda self, rows: rows)
    assert compute_for(fitted()) is None
