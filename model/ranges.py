"""Warnings about valid values that are unlike those of the training data, from the model card.

The model answers them: a forest with the answer for its nearest training data, a linear model with
one that nobody has checked. A warning has one of these codes:

outside_training_range  a number or a datetime below the least or above the highest in training
unseen_category         a text that is not among those in training
further_features        how many other features have such values; only the first are named
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from model import dates
from model.card import Card, Feature
from model.errors import InputWarning
from model.predict import Array
from model.rows import place_of, shown_value

MAX_WARNINGS = 20  # features that the warnings about one task or request name
OUTSIDE, UNSEEN, FURTHER = "outside_training_range", "unseen_category", "further_features"

Warnings = dict[int, list[InputWarning]]


class _Found(NamedTuple):
    """The first value of one feature that deserves a warning, and how many there are."""

    feature: Feature
    row: int
    value: Any
    count: int


class Ranges:
    """The ranges and texts of the training data of one model."""

    def __init__(self, card: Card) -> None:
        self._features = card.features
        self._is_known = any(map(_is_known, card.features))
        self._low = [_low(feature) for feature in card.features]
        self._high = [_high(feature) for feature in card.features]
        self._lows, self._highs = np.array(self._low), np.array(self._high)

    def find(self, X: Array, counts: Sequence[int]) -> Warnings:
        """The warnings about the rows of each part that has some; part n has `counts[n]` rows.

        `X` has shape (rows, features), valid rows as `model.predict.matrix` makes them.
        """
        if not self._is_known or (X.dtype != object and self._are_within(X)):
            return {}
        ends = np.cumsum(counts)
        found: dict[int, list[_Found]] = {}
        for n, feature in enumerate(self._features):
            if not _is_known(feature):
                continue
            rows = np.flatnonzero(self._outside(n, X[:, n]))
            if not len(rows):
                continue
            parts, firsts, hits = np.unique(
                np.searchsorted(ends, rows, side="right"), return_index=True, return_counts=True
            )
            for part, first, hit in zip(parts.tolist(), firsts, hits.tolist(), strict=True):
                row = int(rows[first])
                start = int(ends[part]) - counts[part]
                found.setdefault(part, []).append(_Found(feature, row - start, X[row, n], hit))
        return {part: list(_warnings(each, counts[part])) for part, each in found.items()}

    def of(self, X: Array) -> list[InputWarning] | None:
        """The warnings about all rows as one part; None if there are none."""
        return self.find(X, [len(X)]).get(0)

    def _are_within(self, X: Array) -> bool:
        """Whether no number is outside; NaN never is."""
        if len(X) == 1:  # a tenth of the time of the calls below
            row = X[0].tolist()
            return not any(
                value < low or value > high
                for value, low, high in zip(row, self._low, self._high, strict=True)
            )
        return not ((self._lows > X) | (self._highs < X)).any()

    def _outside(self, n: int, column: Array) -> Any:
        feature = self._features[n]
        if feature.type in ("text", "datetime"):
            odd = set(filter(_test(feature), {v for v in column.tolist() if isinstance(v, str)}))
            return [value in odd for value in column] if odd else []
        numbers = column.astype(np.float64)
        return (numbers < self._low[n]) | (numbers > self._high[n])


def _is_known(feature: Feature) -> bool:
    """Whether a valid value may deserve a warning."""
    if feature.type == "text":
        return bool(feature.seen) and not feature.allowed
    if feature.type == "datetime":
        return bool(feature.earliest or feature.latest)
    return feature.type != "boolean" and (feature.minimum, feature.maximum) != (None, None)


def _low(feature: Feature) -> float:
    return -np.inf if feature.minimum is None else feature.minimum - _half_step(feature, "minimum")


def _high(feature: Feature) -> float:
    return np.inf if feature.maximum is None else feature.maximum + _half_step(feature, "maximum")


def _half_step(feature: Feature, end: str) -> float:
    """What rounds to the same number in the feature's column: 0.1 is not below float32(0.1)."""
    dtype = feature.dtype.lower()
    if dtype not in ("float16", "float32"):
        return 0.0
    return float(np.spacing(np.dtype(dtype).type(abs(getattr(feature, end))))) / 2


def _test(feature: Feature) -> Callable[[str], bool]:
    """Whether a text deserves a warning."""
    if feature.type == "text":
        return lambda text: text not in feature.seen
    earliest = dates.moment(feature.earliest, feature.dtype)
    latest = dates.moment(feature.latest, feature.dtype, at_end=True)

    def is_outside(text: str) -> bool:
        found = dates.moment(text, feature.dtype)
        if found is None:
            return False
        below = earliest is not None and found < earliest
        return below or (latest is not None and found > latest)

    return is_outside


def _warnings(found: Sequence[_Found], rows: int) -> Iterator[InputWarning]:
    for feature, row, value, count in found[:MAX_WARNINGS]:
        code, sentence = _sentence(feature, value)
        more = f", and {count - 1:,} more" if count > 1 else ""
        message = f"{place_of(row, rows)}{feature.name}: {sentence}{more}"
        yield InputWarning(feature.name, code, row + 1, count, message)
    if further := found[MAX_WARNINGS:]:
        names = "1 further feature has" if len(further) == 1 else f"{len(further)} others have"
        row, count = min(each.row for each in further), sum(each.count for each in further)
        yield InputWarning("", FURTHER, row + 1, count, f"{names} values unlike the training data")


def _sentence(feature: Feature, value: Any) -> tuple[str, str]:
    shown = shown_value(value)
    if feature.type == "text":
        return UNSEEN, f"{shown} is not among the {len(feature.seen):,} texts of the training data"
    low, high = _ends(feature)
    span = f"{low} to {high}" if low and high else f"from {low}" if low else f"up to {high}"
    return OUTSIDE, f"{shown} is outside the training range {span}"


def _ends(feature: Feature) -> tuple[str, str]:
    if feature.type == "datetime":
        return feature.earliest, feature.latest
    numbers = feature.minimum, feature.maximum
    low, high = ("" if number is None else shown_value(number) for number in numbers)
    return low, high
