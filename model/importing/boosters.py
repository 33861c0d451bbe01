"""Columns of pandas' categories, as boosters record them: LightGBM, XGBoost, HistGradientBoosting.

These models fail for such a column, or answer otherwise, if it has texts in place of categories.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

Categories = tuple[Any, ...]


def categorical_columns(model: Any, names: Sequence[str]) -> dict[str, Categories]:
    """The columns that were categories at fit, with these where the model has them."""
    for find in (_of_lightgbm, _of_xgboost, _of_histograms):
        if found := find(model, names):
            return found
    return {}


def _of_lightgbm(model: Any, names: Sequence[str]) -> dict[str, Categories]:
    booster = getattr(model, "booster_", None)
    categories = getattr(booster, "pandas_categorical", None) or []
    places = getattr(booster, "params", {}).get("categorical_column") or []
    if len(places) != len(categories):
        return {}
    return {
        names[place]: tuple(each) for place, each in zip(sorted(places), categories, strict=True)
    }


def _of_xgboost(model: Any, names: Sequence[str]) -> dict[str, Categories]:
    if not hasattr(model, "get_booster"):
        return {}
    booster = model.get_booster()
    kinds = booster.feature_types or []
    if "c" not in kinds:
        return {}
    # `get_categories` needs pyarrow, and XGBoost 3.2 cuts texts beyond ASCII at the wrong places.
    trained = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
    encoded = trained.get("gbtree", trained)["model"].get("cats", {}).get("enc") or [{}] * len(
        kinds
    )
    triples = zip(names, kinds, encoded, strict=True)
    return {name: _decoded(each) for name, kind, each in triples if kind == "c"}


def _decoded(encoded: Mapping[str, Any]) -> Categories:
    """Categories as XGBoost writes them: numbers, or bytes of texts with the places they end at."""
    values, ends = encoded.get("values", ()), encoded.get("offsets")
    if ends is None:
        return tuple(values)
    text = bytes(value % 256 for value in values)
    return tuple(text[a:b].decode() for a, b in pairwise(ends))


def _of_histograms(model: Any, names: Sequence[str]) -> dict[str, Categories]:
    preprocessor = getattr(model, "_preprocessor", None)
    if getattr(model, "is_categorical_", None) is None or preprocessor is None:
        return {}
    columns = [name for name, flag in zip(names, model.is_categorical_, strict=True) if flag]
    categories = preprocessor.named_transformers_["encoder"].categories_
    return {name: tuple(each.tolist()) for name, each in zip(columns, categories, strict=True)}
