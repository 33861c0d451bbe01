"""Rows that a model should answer, made from its card."""

import random
from collections.abc import Iterator
from typing import Any

from model.card import Card, Feature

Row = list[Any]
FREE_TEXTS = ("a", "1", "")  # of a feature that does not name its texts; empty: or missing
MISSING_SHARE = 0.1  # of the values of a nullable feature
DIGITS = 6


def example_row(card: Card) -> Row:
    """A row from the middle of what the features allow."""
    return [value_at(feature, 0.5) for feature in card.features]


def edge_rows(card: Card) -> Iterator[Row]:
    """Rows from both ends and from the middle of what the features allow."""
    for place in (0.0, 0.5, 1.0):
        yield [value_at(feature, place) for feature in card.features]


def varied_rows(card: Card, count: int) -> list[Row]:
    """Rows from anywhere in what the features allow, missing values too; always the same ones."""
    chance = random.Random(0)  # noqa: S311 - no secret
    return [[_any_value(feature, chance) for feature in card.features] for _ in range(count)]


def as_typed(value: Any) -> str:
    """A value as a person types it: what `model.rows.parse_value` reads as this value."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def value_at(feature: Feature, place: float) -> Any:
    """A value of the feature; `place` is from 0, the low end of what it allows, to 1."""
    if feature.type == "text":
        texts = feature.categories or (FREE_TEXTS[:-1] if feature.nullable else FREE_TEXTS)
        return texts[round(place * (len(texts) - 1))]
    if feature.type == "boolean":
        return place > 0
    low = 0.0 if feature.minimum is None else feature.minimum
    high = low + 1.0 if feature.maximum is None else feature.maximum
    value = low + place * (high - low)
    return round(value) if feature.type == "integer" else _short(value, low, high)


def _short(value: float, low: float, high: float) -> float:
    """The value with a few digits, as long as it stays within the range."""
    short = float(f"{value:.{DIGITS}g}")
    return short if low <= short <= high else value


def _any_value(feature: Feature, chance: random.Random) -> Any:
    if feature.nullable and chance.random() < MISSING_SHARE:
        return None
    if feature.type == "boolean":
        return chance.random() < 0.5
    return value_at(feature, chance.random())
