"""A table of flats with columns of every kind, and a pipeline for it, as users bring them."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

COLUMNS = ["living area", "kind", "postcode", "rooms", "new"]
KINDS = ("Häuschen am See", "flat", "it's, a room")
POSTCODES = ("10115", "80331", "99999")


def table(rows: int = 60) -> pd.DataFrame:
    """Flats with an id and a label; one lacks its rooms, and one its kind."""
    rng = np.random.default_rng(0)
    flats = pd.DataFrame({
        "id": range(rows),
        "living area": rng.integers(20, 200, rows),
        "kind": rng.choice(KINDS, rows),
        "postcode": rng.choice(POSTCODES, rows),
        "rooms": rng.uniform(-1, 6, rows).round(2),
        "new": rng.choice([True, False], rows),
    })  # fmt: skip
    flats.loc[3, "rooms"] = np.nan
    flats.loc[5, "kind"] = None
    return flats.assign(size=(flats["living area"] > 100).map({True: "big", False: "small"}))


def classifier(handle_unknown: str = "ignore") -> Any:
    """A pipeline that fills what is missing, fitted on `table`."""
    flats = table()
    encode = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown=handle_unknown)
    )
    columns = make_column_transformer(
        (encode, ["kind", "postcode"]), (SimpleImputer(), ["living area", "rooms", "new"])
    )
    pipeline = make_pipeline(columns, LogisticRegression(max_iter=10_000))
    return pipeline.fit(flats[COLUMNS], flats["size"])


def regressor() -> Any:
    """A pipeline that needs every value, fitted on the complete rows of `table`."""
    flats = table().dropna()
    columns = make_column_transformer(
        (OneHotEncoder(), ["kind", "postcode"]), remainder="passthrough"
    )
    return make_pipeline(columns, LinearRegression()).fit(flats[COLUMNS], flats["living area"])
