"""A table with columns of every kind, pipelines fitted on it, and rows drawn for their cards."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from msgspec.structs import replace

from model.card import Card, Feature
from model.predict import matrix
from model.table import ToTable, table_for
from model.train import describe, make_card

ROWS = 60
rng = np.random.default_rng(0)


def _drawn(values: list[Any], dtype: Any) -> Any:
    return pd.Series([values[n] for n in rng.integers(len(values), size=ROWS)], dtype=dtype)


FRAME = pd.DataFrame(
    {
        "size": rng.normal(80, 20, ROWS),
        "age m²": np.where(rng.random(ROWS) < 0.2, np.nan, rng.normal(40, 9, ROWS)),
        "rooms": rng.integers(1, 7, ROWS),
        "floor": rng.integers(0, 255, ROWS).astype("uint8"),
        "ratio": rng.normal(0, 1, ROWS).astype("float32"),
        "new": rng.random(ROWS) < 0.5,
        "kind": _drawn(["flat", "house", "Büro, groß"], object),
        "heat: type": _drawn(["gas", "oil", np.nan], object),
        "owner": _drawn(["city", "private", None], object),
        "street": _drawn(["a b", "ß", None], "str"),
        "class": _drawn(["low", "high", None], pd.CategoricalDtype(["low", "mid", "high"])),
        "count": _drawn([1, 2, 30, None], "Int64"),
        "lift": _drawn([True, False, None], object),
        "level": _drawn([0.0, 1.0, 2.5], "float64"),
    }
)
NUMBERS = ["size", "age m²", "rooms"]
TEXTS = ["kind", "heat: type", "street", "class"]
Y = np.digitize(FRAME["size"] + 5 * FRAME["rooms"], [85, 110])
LABELS = np.array(["low", "mid", "high"])[Y]


class Case(NamedTuple):
    """A fitted model with its card, and what makes the table that it was fitted on."""

    model: Any
    card: Card
    to_table: ToTable


def fitted(model: Any, table: Any, y: Any = LABELS) -> Case:
    """The model, fitted on a DataFrame or an array, and its card."""
    model.fit(table, y)
    names = None if isinstance(table, pd.DataFrame) else [f"x{n}" for n in range(table.shape[1])]
    is_frame = isinstance(table, pd.DataFrame) and not hasattr(model, "feature_names_in_")
    card = replace(make_card("case", model, describe(table, names)), frame=is_frame)
    return Case(model, card, table_for(model, card.features, card.columns))


def _values(feature: Feature) -> st.SearchStrategy[Any]:
    if feature.type == "text":
        unseen = st.nothing() if feature.categories else st.sampled_from(["", "unseen", "flat "])
        seen = feature.categories or ("flat", "house", "Büro, groß", "gas", "oil", "city", "ß")
        values: st.SearchStrategy[Any] = st.sampled_from(seen) | unseen
    elif feature.type == "boolean":
        values = st.sampled_from([True, False, 1, 0.0])
    elif feature.type == "integer":
        values = st.integers(0, 255) | st.integers(0, 6).map(float)
    else:
        values = st.sampled_from([0.0, 1.0, 2.5]) | st.floats(-1e3, 1e3)
    return values | st.none() if feature.nullable else values


def rows_for(card: Card) -> st.SearchStrategy[Any]:
    """Rows that are valid by the card, as they travel."""
    row = st.tuples(*map(_values, card.features)).map(list)
    some = st.lists(row, min_size=1, max_size=3)
    many = st.lists(row, min_size=1, max_size=2).map(lambda rows: rows * 20)
    return (some | many).map(lambda rows: matrix(rows, card.numeric))


def training_rows(case: Case, table: Any) -> Any:
    """The rows of the training data, as they travel."""
    values = np.asarray(table, dtype=object)
    rows = [[None if v is pd.NA or v != v else v for v in row] for row in values]
    return matrix(rows, case.card.numeric)
