"""Fitted models, each with its card, and rows for it in both forms: as they travel and as fitted.

Numbers are those of breast cancer (569 rows, 30 features, two classes), which scikit-learn ships.
It ships no table with texts, so the mixed one is made: flats with gaps, drawn with a seed.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from model.card import Card
from model.predict import matrix
from model.train import describe, make_card

TREES, STAGES = 300, 100
MIXED_ROWS = 2000
NUMBERS = ["size m²", "rooms", "year", "distance"]
TEXTS = ["kind", "heating", "district"]
DISTRICTS = ["Altstadt", "Köln Süd", "Neustadt, West", "Östlicher Ring", "Weiler"]


class Case(NamedTuple):
    """A fitted model, its card, and the same rows as they travel (`X`) and as it was fitted."""

    name: str
    model: Any
    card: Card
    X: Any
    table: Any


def cases(rows: int, trees: int = TREES) -> Iterator[Case]:
    """The models one after the other, fitted when they are asked for, each with `rows` rows.

    Forests have so many trees, and boosted models as many stages, at most 100.
    """
    for name, make in _estimators(trees).items():
        table, y = mixed() if name.startswith("mixed") else numbers()
        model = make().fit(table, y)
        card = make_card(name, model, describe(table, _names(table)))
        some = np.random.default_rng(1).integers(len(table), size=rows)
        chosen = table.iloc[some] if isinstance(table, pd.DataFrame) else table[some]
        yield Case(name, model, card, travelling(card, chosen), chosen)


def _estimators(trees: int) -> dict[str, Callable[[], Any]]:
    return {
        "logistic": lambda: LogisticRegression(solver="newton-cholesky"),
        "forest": lambda: RandomForestClassifier(trees, random_state=0),
        "gradient_boosting": lambda: GradientBoostingClassifier(
            n_estimators=min(trees, STAGES), random_state=0
        ),
        "hist_gradient_boosting": lambda: HistGradientBoostingClassifier(
            max_iter=min(trees, STAGES), random_state=0
        ),
        "mixed_forest": lambda: make_pipeline(
            prepared(), RandomForestClassifier(trees, random_state=0)
        ),
        "mixed_logistic": lambda: make_pipeline(prepared(), LogisticRegression(max_iter=1000)),
    }


def prepared() -> Any:
    """The steps before a model of mixed columns, as scikit-learn's documentation writes them."""
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
        (
            make_pipeline(
                SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
            ),
            TEXTS,
        ),
    )


def numbers() -> tuple[Any, Any]:
    """Breast cancer: an array of shape (569, 30), and the two classes by name."""
    bunch = load_breast_cancer()
    return bunch.data, bunch.target_names[bunch.target]


def mixed() -> tuple[Any, Any]:
    """Flats: four columns of numbers and three of texts, with gaps, and three classes of rent."""
    rng = np.random.default_rng(0)
    size, rooms = rng.gamma(6, 12, MIXED_ROWS), rng.integers(1, 7, MIXED_ROWS)
    district = rng.integers(len(DISTRICTS), size=MIXED_ROWS)
    table = pd.DataFrame(
        {
            NUMBERS[0]: size,
            NUMBERS[1]: rooms.astype(float),
            NUMBERS[2]: rng.integers(1900, 2025, MIXED_ROWS),
            NUMBERS[3]: rng.exponential(5, MIXED_ROWS),
            TEXTS[0]: rng.choice(["flat", "house", "studio"], MIXED_ROWS),
            TEXTS[1]: rng.choice(["gas", "oil", "heat pump", "district heating"], MIXED_ROWS),
            TEXTS[2]: np.array(DISTRICTS)[district],
        }
    )
    noise = rng.normal(0, 150, MIXED_ROWS)
    rent = 9 * size + 60 * rooms + 90 * district + noise
    for name in (NUMBERS[0], NUMBERS[3], TEXTS[1]):
        table.loc[rng.random(MIXED_ROWS) < 0.05, name] = None
    return table, np.digitize(rent, np.quantile(rent, [1 / 3, 2 / 3]))


def travelling(card: Card, table: Any) -> Any:
    """The rows of a table as the doors hand them to the model."""
    values = np.asarray(table, dtype=object)
    rows = [[None if value != value else value for value in row] for row in values]
    return matrix(rows, card.numeric)


def _names(table: Any) -> list[str] | None:
    return None if isinstance(table, pd.DataFrame) else list(load_breast_cancer().feature_names)
