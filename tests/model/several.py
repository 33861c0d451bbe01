"""Models of different kinds for one pipeline: rows with text, rows with booleans, versions."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from model import artifact as artifacts
from model.card import Card, Feature
from model.train import make_card

KINDS = ("flat", "house", "größer")
RENT_ROWS: list[list[Any]] = [[30.0 + 7 * n, KINDS[n % 3]] for n in range(12)]
LOAN_ROWS: list[list[Any]] = [[float(n), n % 2 == 0] for n in range(12)]


class Several(NamedTuple):
    """A folder for PETAL_MODELS, and the cards of its models by reference."""

    folder: Path
    cards: dict[str, Card]


def save_rent(path: Path) -> Card:
    """A regressor with a text column."""
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), [1]), ("passthrough", [0])
    )
    model = make_pipeline(encoder, Ridge())
    model.fit(_table(RENT_ROWS), [10.0 * size + 100 * len(kind) for size, kind in RENT_ROWS])
    features = [Feature(name="size"), Feature(name="kind", type="text", categories=KINDS)]
    return artifacts.save(model, make_card("rent", model, features), path)


def save_loan(path: Path) -> Card:
    """A classifier with a boolean column, whose labels are booleans."""
    model = RandomForestClassifier(3, random_state=0)
    model.fit(_table(LOAN_ROWS), [own or years > 6 for years, own in LOAN_ROWS])
    features = [Feature(name="years"), Feature(name="own", type="boolean")]
    return artifacts.save(model, make_card("loan", model, features), path)


def save_constant(path: Path, name: str, value: float) -> Card:
    """A regressor of one number that always answers `value`."""
    model = DummyRegressor(strategy="constant", constant=value).fit([[0.0], [1.0]], [0.0, 1.0])
    return artifacts.save(model, make_card(name, model, [Feature(name="x")]), path)


def save_all(folder: Path) -> Several:
    """`rent`, `loan` and `flat`, `line` in the versions 2 and 10, and a file that is no model."""
    (folder / "broken.joblib").write_bytes(b"no pickle")
    cards = {
        "rent": save_rent(folder / "rent.joblib"),
        "loan": save_loan(folder / "loan.joblib"),
        "flat": save_constant(folder / "flat.joblib", "flat", 0.0),
        "line@2": save_constant(folder / "line" / "2.joblib", "line", 2.0),
        "line@10": save_constant(folder / "line" / "10.joblib", "line", 10.0),
    }
    return Several(folder, cards)


def _table(rows: list[list[Any]]) -> Any:
    return np.array(rows, dtype=object)
