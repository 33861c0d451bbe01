"""The estimators for tables: what fills gaps, what encodes texts, and the model behind them."""

import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from model.errors import TableError
from model.training.columns import Columns
from model.training.target import Target, Task

Family = Literal["logistic", "ridge", "forest", "boosting"]
FAMILIES: dict[Task, tuple[Family, ...]] = {
    "classification": ("logistic", "forest", "boosting"),
    "regression": ("ridge", "forest", "boosting"),
}

MANY_CLASSES = 5  # from more on boosting is slow: it fits one tree for each
MANY_ROWS = 1000  # from which boosting is mostly better than a linear model
MANY_FOR_THREADS = 20_000  # rows
TREES = 200
MOST_LEAVES = 5000  # of a tree, about; a forest of 100,000 rows would have a gigabyte otherwise
MIN_CATEGORY_ROWS = 2  # a category of fewer rows counts as an unknown one
MAX_ENCODED = 50  # categories of a column that get a column of their own
MAX_BOOSTED = 254  # categories of a column that scikit-learn's boosting can tell apart
HASHED_WORDS = 2**12
TOPICS = 50  # numbers that a tree gets of a free text
MAX_DENSE = 100_000_000  # cells of a table that is not sparse


class Choice(NamedTuple):
    """A family of models, and why it was chosen."""

    family: Family
    reason: str


def choose(target: Target, asked: Family | None = None) -> Choice:
    """The family that was asked for, or the default one; raises TableError for another task's."""
    task, rows, families = target.task, len(target.y), FAMILIES[target.task]
    if asked is not None:
        if asked not in families:
            raise TableError(f"{asked} is no model for {task}; choose one of {', '.join(families)}")
        return Choice(asked, "as asked")
    if rows < MANY_ROWS:
        return Choice(families[0], f"the table has fewer than {MANY_ROWS:,} rows")
    if task == "classification" and len(np.unique(target.y)) > MANY_CLASSES:
        return Choice("forest", f"the table has many rows and more than {MANY_CLASSES} classes")
    return Choice("boosting", f"the table has {MANY_ROWS:,} rows or more")


def make(task: Task, family: Family, columns: Columns, seed: int) -> Any:
    """The unfitted estimator. It takes the DataFrame of the columns.

    A category that is not in the training data counts as a rare one, or as a missing value.
    """
    if family in ("logistic", "ridge"):
        return _linear(family, columns, seed)
    return _trees(task, family, columns, seed)


def fit(model: Any, X: Any, y: Any) -> Any:
    """A fitted copy of the model, the same on any number of processors.

    Sums of linear algebra depend on the number of threads, those of trees do not. For few rows the
    threads of boosting would mostly wait for each other.
    """
    fitted = clone(model)
    final = fitted[-1] if isinstance(fitted, Pipeline) else fitted
    is_forest = "n_jobs" in final.get_params() and "n_estimators" in final.get_params()
    limits = {"blas": 1, **({"openmp": 1} if len(X) < MANY_FOR_THREADS else {})}
    with warnings.catch_warnings(), threadpool_limits(limits):
        warnings.simplefilter("ignore")  # about a fold that lacks a rare category, and the like
        if is_forest:
            final.set_params(n_jobs=-1)
        fitted.fit(X, y)
        if is_forest:
            final.set_params(n_jobs=None)  # a worker has one thread
    return fitted


def _linear(family: Family, columns: Columns, seed: int) -> Any:
    numbers, categories, texts = columns.of("number"), _categories(columns), columns.of("text")
    has_gaps = bool(columns.X[numbers].isna().any(axis=None))
    median = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    scaled = [*([median] if has_gaps else []), StandardScaler()]
    model = (
        LogisticRegression(max_iter=1000, random_state=seed)
        if family == "logistic"
        else Ridge(random_state=seed)
    )
    if not categories and not texts:
        return make_pipeline(*scaled, model)
    is_sparse = bool(texts) or len(columns.X) * len(categories) * MAX_ENCODED > MAX_DENSE
    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=MIN_CATEGORY_ROWS,
        max_categories=MAX_ENCODED, sparse_output=is_sparse,
    )  # fmt: skip
    steps = [
        ("numbers", make_pipeline(*scaled), numbers),
        ("categories", one_hot, categories),
        *((f"text {n}", _words(), [name]) for n, name in enumerate(texts)),
    ]
    return make_pipeline(_transformer(steps, 0.3 if is_sparse else 0), model)


def _trees(task: Task, family: Family, columns: Columns, seed: int) -> Any:
    numbers, categories, texts = columns.of("number"), _categories(columns), columns.of("text")
    model = _forest(task, len(columns.X), seed) if family == "forest" else None
    if model is None:
        kind = (
            HistGradientBoostingClassifier
            if task == "classification"
            else HistGradientBoostingRegressor
        )
        encoded = range(len(numbers), len(numbers) + len(categories))
        model = kind(random_state=seed, categorical_features=list(encoded) or None)
    if not categories and not texts:
        return model
    ordinal = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan,
        min_frequency=MIN_CATEGORY_ROWS, max_categories=MAX_BOOSTED,
    )  # fmt: skip
    steps = [
        ("numbers", "passthrough", numbers),
        ("categories", ordinal, categories),
        *((f"text {n}", _topics(seed), [name]) for n, name in enumerate(texts)),
    ]
    return make_pipeline(_transformer(steps, 0), model)


def _forest(task: Task, rows: int, seed: int) -> Any:
    kind = RandomForestClassifier if task == "classification" else RandomForestRegressor
    leaf = 1 + rows // MOST_LEAVES
    return kind(TREES, min_samples_leaf=leaf, random_state=seed)


def _categories(columns: Columns) -> list[str]:
    return columns.of("category", "boolean")


def _transformer(steps: list[tuple[str, Any, list[str]]], sparse_threshold: float) -> Any:
    kept = [(name, step, columns) for name, step, columns in steps if columns]
    return ColumnTransformer(kept, sparse_threshold=sparse_threshold)


def _words() -> Any:
    """The weights of a text's words; a missing text has none."""
    return make_pipeline(
        SimpleImputer(strategy="constant", fill_value=""),
        FunctionTransformer(np.ravel),
        HashingVectorizer(n_features=HASHED_WORDS, alternate_sign=False, norm=None),
        TfidfTransformer(),
    )


def _topics(seed: int) -> Any:
    """A few numbers for the words of a text."""
    return make_pipeline(*_words(), TruncatedSVD(TOPICS, random_state=seed))
