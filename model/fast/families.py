"""Which models have a fast path: their own arithmetic, without scikit-learn's checks, same bits.

A fast path is taken for what a test compares with scikit-learn bit for bit, and for nothing else.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import sklearn

from model.fast import forest, gradient_boosting, histogram_boosting, linear, logistic
from model.fast.checks import name_of

Array = np.ndarray[Any, Any]
Compute = Callable[[Array], tuple[Array, Array | None]]
ComputeOne = Callable[[Array], tuple[Any, list[float]]]
Built = TypeVar("Built")

# Other versions may compute in another order. The tests prove these.
PROVED = ("1.9.1",)

_LOGISTIC = "sklearn.linear_model._logistic.LogisticRegression"
_HISTOGRAM = "sklearn.ensemble._hist_gradient_boosting.gradient_boosting"
_LINEAR_REGRESSORS = (
    "linear_model._base.LinearRegression",
    "linear_model._ridge.Ridge",
    "linear_model._ridge.RidgeCV",
    "linear_model._coordinate_descent.Lasso",
    "linear_model._coordinate_descent.LassoCV",
    "linear_model._coordinate_descent.ElasticNet",
    "linear_model._coordinate_descent.ElasticNetCV",
    "linear_model._bayes.BayesianRidge",
    "linear_model._huber.HuberRegressor",
    "svm._classes.LinearSVR",
)
_LINEAR_CLASSIFIERS = (
    "linear_model._ridge.RidgeClassifier",
    "linear_model._ridge.RidgeClassifierCV",
    "linear_model._stochastic_gradient.SGDClassifier",
    "svm._classes.LinearSVC",
)
_BUILDERS: dict[str, Callable[[Any], Compute]] = {
    _LOGISTIC: logistic.compute_for,
    **{f"sklearn.{name}": linear.regressor for name in _LINEAR_REGRESSORS},
    **{f"sklearn.{name}": linear.classifier for name in _LINEAR_CLASSIFIERS},
    "sklearn.tree._classes.DecisionTreeClassifier": forest.tree_classifier,
    "sklearn.tree._classes.ExtraTreeClassifier": forest.tree_classifier,
    "sklearn.tree._classes.DecisionTreeRegressor": forest.tree_regressor,
    "sklearn.tree._classes.ExtraTreeRegressor": forest.tree_regressor,
    "sklearn.ensemble._forest.RandomForestClassifier": forest.forest_classifier,
    "sklearn.ensemble._forest.ExtraTreesClassifier": forest.forest_classifier,
    "sklearn.ensemble._forest.RandomForestRegressor": forest.forest_regressor,
    "sklearn.ensemble._forest.ExtraTreesRegressor": forest.forest_regressor,
    "sklearn.ensemble._gb.GradientBoostingClassifier": gradient_boosting.classifier,
    "sklearn.ensemble._gb.GradientBoostingRegressor": gradient_boosting.regressor,
    f"{_HISTOGRAM}.HistGradientBoostingClassifier": histogram_boosting.classifier,
    f"{_HISTOGRAM}.HistGradientBoostingRegressor": histogram_boosting.regressor,
}
_BUILDERS_OF_ONE: dict[str, Callable[[Any], ComputeOne]] = {_LOGISTIC: logistic.compute_one_for}


def compute_for(model: Any) -> Compute | None:
    """What computes the answers of a fitted model by its fast path; None if it has none.

    It takes rows as float64 of shape (rows, features). It returns the labels or numbers that
    `model.predict` returns, shape (rows,), and the probabilities that `model.predict_proba`
    returns, shape (rows, classes), None for a model without. The bits of a linear model depend on
    the layout of the rows in memory, as they do in scikit-learn. It may raise for rows that it does
    not cover, such as rows for which scikit-learn raises; then `model.predict` must be asked. Ask
    once for a model: it may copy the model's numbers, and does not notice a later change of them.
    """
    return _built(_BUILDERS, model)


def compute_one_for(model: Any) -> ComputeOne | None:
    """The same for a single row, where Python's arithmetic is faster than that of arrays."""
    return _built(_BUILDERS_OF_ONE, model)


def _built(builders: dict[str, Callable[[Any], Built]], model: Any) -> Built | None:
    if sklearn.__version__ not in PROVED:
        return None
    try:
        return builders[name_of(model)](model)
    except Exception:  # an unknown class, or a model that was fitted by other code, or by half
        return None
