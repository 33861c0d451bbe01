"""The features of a model from a sample, a signature, and what its encoders know."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from msgspec.structs import replace

from model.card import Feature
from model.errors import CardError, SourceError
from model.importing.encoders import Known
from model.sources.source import Source
from model.train import describe

CATEGORY = "category"  # the dtype that pandas gives a column of categories


def from_names(source: Source, names: Sequence[str], known: Sequence[Known]) -> list[Feature]:
    """The features without a sample: numbers, but for what a signature or an encoder shows."""
    signed = _signed(source, names)
    pairs = zip(names, known, strict=True)
    return [_with_categories(signed.get(name) or _unseen(name, each), each) for name, each in pairs]


def _unseen(name: str, known: Known) -> Feature:
    return Feature(name=name, type="text" if known.is_text else "number", nullable=known.gaps)


def from_sample(source: Source, sample: Any, known: Sequence[Known]) -> list[Feature]:
    """The features of the columns of `sample`, of which the model's steps have `known` something.

    Raises SourceError for a column that no feature can describe.
    """
    try:
        features = describe(sample)
    except CardError as e:
        raise SourceError(f"the sample cannot be described: {e}") from e
    signed = _signed(source, list(sample.columns))
    pairs = zip(features, known, strict=True)
    return [_with_categories(_agreed(found, signed.get(found.name)), each) for found, each in pairs]


def _signed(source: Source, names: Sequence[str]) -> dict[str, Feature]:
    """The features of the signature by name, or by place where it has no names."""
    if len(source.features) == len(names) and not any(f.name for f in source.features):
        pairs = zip(source.features, names, strict=True)
        return {name: replace(feature, name=name) for feature, name in pairs}
    return {feature.name: feature for feature in source.features}


def _agreed(found: Feature, signed: Feature | None) -> Feature:
    """What was found in the sample, with type and gaps of the signature."""
    if signed is None:
        return found
    if signed.type == found.type:
        return replace(
            found, nullable=found.nullable or signed.nullable, dtype=signed.dtype or found.dtype
        )
    span = {"minimum": found.minimum, "maximum": found.maximum}
    return replace(signed, **span if signed.type in ("number", "integer") else {})


def _with_categories(feature: Feature, known: Known) -> Feature:
    """The feature with the values beyond which an encoder fails, or else with those it has seen."""
    if feature.type != "boolean" and known.closed and _are_of(feature, known.values):
        return replace(feature, categories=known.values)
    seen = known.values if feature.type == "text" and known.is_text else ()
    return replace(feature, categories=() if known.pandas else feature.categories, seen=seen)


def _are_of(feature: Feature, values: Sequence[Any]) -> bool:
    kinds = (str,) if feature.type == "text" else (int, float)
    return all(type(value) in kinds for value in values)


def as_fitted(source: Source, sample: Any, known: Sequence[Known]) -> Any:
    """The sample with texts and categories where the model had them at fit.

    A table that was read from a file has numbers for codes such as 80331, and no categories.
    """
    signed = _signed(source, list(sample.columns))
    made = {}
    for name, each in zip(sample.columns, known, strict=True):
        column = sample[name]
        if column.dtype.kind in "iuf" and (each.is_text or _is_text(signed.get(name))):
            column = column.map(_text)
        made[name] = column.astype(CATEGORY) if each.pandas else column
    return sample.assign(**made)


def with_dates(sample: Any, known: Sequence[Known]) -> Any | None:
    """The sample with datetimes where all texts of a column are some; None where it has none.

    A text file has no datetimes, and only the model can tell whether it was fitted on them.
    """
    made = {
        name: dates
        for name, each in zip(sample.columns, known, strict=True)
        if not each.is_text and (dates := _dates(sample[name])) is not None
    }
    return sample.assign(**made) if made else None


def _dates(column: Any) -> Any | None:
    if not pd.api.types.is_string_dtype(column) or column.isna().all():
        return None
    try:
        return pd.to_datetime(column, format="ISO8601")
    except (ValueError, TypeError):
        return None


def _is_text(feature: Feature | None) -> bool:
    return feature is not None and feature.type == "text"


def _text(value: Any) -> Any:
    if value != value:
        return np.nan
    return str(int(value)) if float(value).is_integer() else str(value)


def without_ranges(features: Sequence[Feature]) -> tuple[Feature, ...]:
    """The features without ranges, which a few rows do not show."""
    none = {"minimum": None, "maximum": None, "earliest": "", "latest": ""}
    return tuple(replace(feature, **none) for feature in features)
