"""Whether values are a row for a model, by its card."""

import math
from collections.abc import Sequence

from model.card import Card, Feature, Value


def fault(feature: Feature, value: Value) -> str | None:
    """What is wrong with a value for a feature, or None."""
    if value is None:
        return None if feature.nullable else "a value is missing"
    if feature.type == "text":
        if not isinstance(value, str):
            return "expected a text"
        allowed = not feature.categories or value in feature.categories
        return None if allowed else "the text is none of the allowed ones"
    if isinstance(value, str):
        return "expected a number"
    return None if math.isfinite(value) else "the number is not finite"


def first_fault(card: Card, X: Sequence[Sequence[Value]]) -> str | None:
    """The first thing wrong with rows for a model, with its place (`$.X[2][0]`), or None."""
    width = len(card.features)
    for i, row in enumerate(X):
        if len(row) != width:
            return f"$.X[{i}]: got {len(row)} features, the model wants {width}"
        for j, (feature, value) in enumerate(zip(card.features, row, strict=True)):
            if message := fault(feature, value):
                return f"$.X[{i}][{j}] ({feature.name}): {message}"
    return None
