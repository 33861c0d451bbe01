"""Warnings about valid values that are unlike those of the training data, from the model card.

The model answers them: a forest with the answer for its nearest training data, a linear model with
one that nobody has checked. A warning has one of these codes:

outside_training_range  a number or a datetime below the least or above the highest in training
unseen_category         a text that is not among those in training
further_features        how many other features have such values; only the first are named
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from model.card import Card, Feature
from model.errors import InputWarning
from model.values import dates
from model.values.sentences import place_of, shown_number, shown_value

MAX_WARNINGS = 20  # features that the warnings about one task or request name
OUTSIDE, UNSEEN, FURTHER = "outside_training_range", "unseen_category", "further_features"

Array = np.ndarray[Any, Any]
Warnings = dict[int, list[InputWarning]]


class Unlike(NamedTuple):
    """The values of a feature, in some rows, that are unlike the training data.

    `hits` is their number, `first` the index of the first of these rows. `fault` follows `is` or
    `are` in a sentence: `outside the training range 20 to 200`.
    """

    feature: str
    code: str
    hits: int
    first: int
    fault: str

    def sentence(self, place: str) -> str:
        """For people; `place` is where the first is, such as `line 17`."""
        if self.hits == 1:
            return f"{self.feature}: 1 value is {self.fault}, in {place}"
        return f"{self.feature}: {self.hits:,} values are {self.fault}, the first in {place}"


class Ranges:
    """The ranges and texts of the training data of one model."""

    def __init__(self, card: Card) -> None:
        features = card.features
        self._known = [
            _Known(n, feature) for n, feature in enumerate(features) if _is_known(feature)
        ]
        self._low, self._high = list(map(_low, features)), list(map(_high, features))
        self._lows, self._highs = np.array(self._low), np.array(self._high)

    def find(self, X: Array, counts: Sequence[int]) -> Warnings:
        """The warnings about the rows of each part that has some; part n has `counts[n]` rows.

        `X` has shape (rows, features), valid rows as `model.predict.matrix` makes them; each part
        has one at least.
        """
        if self._are_within(X):
            return {}
        found: Warnings = defaultdict(list)
        further: dict[int, list[tuple[int, int]]] = defaultdict(list)
        ends = np.cumsum(counts)
        for known in self._known:
            for part, row, count, value in known.places(X, ends):
                if len(found[part]) < MAX_WARNINGS:
                    found[part].append(known.warning(value, row, count, counts[part]))
                else:
                    further[part].append((row, count))
        for part, others in further.items():
            found[part].append(_further(others))
        return dict(found)

    def of(self, X: Array) -> list[InputWarning] | None:
        """The warnings about all rows as one part; None if there are none."""
        return self.find(X, [len(X)]).get(0)

    def count(self, X: Array) -> list[Unlike]:
        """The features with values unlike the training data, however many; `X` as in `find`."""
        if self._are_within(X):
            return []
        found = []
        for known in self._known:
            rows = known.rows(X)
            if len(rows):
                first = int(rows[0])
                found.append(Unlike(known.name, known.code, len(rows), first, known.fault))
        return found

    def _are_within(self, X: Array) -> bool:
        """Whether surely no value is unlike the training data; NaN never is."""
        if not self._known or X.dtype == object:
            return not self._known
        if len(X) == 1:  # a tenth of the time of the calls below
            row = X[0].tolist()
            return not any(
                value < low or value > high
                for value, low, high in zip(row, self._low, self._high, strict=True)
            )
        return not ((self._lows > X) | (self._highs < X)).any()


class _Known:
    """What is known of one feature's values in training, and its part in sentences about others."""

    def __init__(self, n: int, feature: Feature) -> None:
        self._n, self.name = n, feature.name
        self.code, self.fault = _fault(feature)
        self._low, self._high = _low(feature), _high(feature)
        self._is_text = feature.is_text
        self._is_odd = _test(feature)
        self._show: Callable[[Any], str] = shown_value if feature.is_text else shown_number

    def rows(self, X: Array) -> Array:
        """The rows with a value unlike these."""
        column = X[:, self._n]
        if self._is_text:
            texts = {value for value in column.tolist() if isinstance(value, str)}
            odd = set(filter(self._is_odd, texts))
            return np.flatnonzero([value in odd for value in column] if odd else [])
        numbers = column.astype(np.float64)
        return np.flatnonzero((numbers < self._low) | (numbers > self._high))

    def places(self, X: Array, ends: Array) -> Iterable[tuple[int, int, int, Any]]:
        """Of each part with such values: the part, the first row in it, their number, the first."""
        if len(X) == 1:
            value = X.item(0, self._n)
            return [(0, 0, 1, value)] if self._is_unlike(value) else []
        rows = self.rows(X)
        if len(ends) == len(X):  # a row each
            parts, first, hits = rows, rows, np.ones_like(rows)
        else:
            parts, at, hits = np.unique(
                np.searchsorted(ends, rows, side="right"), return_index=True, return_counts=True
            )
            first = rows[at]
        starts = np.concatenate(([0], ends))
        columns = parts, first - starts[parts], hits, X[first, self._n]
        return zip(*(column.tolist() for column in columns), strict=True)

    def warning(self, value: Any, row: int, count: int, rows: int) -> InputWarning:
        """The warning about a value, the first of `count` in a part with so many rows."""
        more = f", and {count - 1:,} more" if count > 1 else ""
        text = f"{place_of(row, rows)}{self.name}: {self._show(value)} is {self.fault}{more}"
        return InputWarning(self.name, self.code, row + 1, count, text)

    def _is_unlike(self, value: Any) -> bool:
        if self._is_text:
            return isinstance(value, str) and self._is_odd(value)
        return bool(value < self._low or value > self._high)


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
    if feature.type != "datetime":
        seen = frozenset(feature.seen)
        return lambda text: text not in seen
    earliest = dates.moment(feature.earliest, feature.dtype)
    latest = dates.moment(feature.latest, feature.dtype, at_end=True)

    def is_outside(text: str) -> bool:
        found = dates.moment(text, feature.dtype)
        if found is None:
            return False
        below = earliest is not None and found < earliest
        return below or (latest is not None and found > latest)

    return is_outside


def further_sentence(features: int) -> str:
    """About so many features that are not named."""
    names = "1 further feature has" if features == 1 else f"{features:,} others have"
    return f"{names} values unlike the training data"


def _further(others: Sequence[tuple[int, int]]) -> InputWarning:
    """One warning about further features, each with its first row and its number of values."""
    row, count = min(row for row, _ in others), sum(count for _, count in others)
    return InputWarning("", FURTHER, row + 1, count, further_sentence(len(others)))


def _fault(feature: Feature) -> tuple[str, str]:
    """The code of what is wrong with a value, and the words after `is`."""
    if feature.type == "text":
        return UNSEEN, f"not among the {len(feature.seen):,} texts of the training data"
    low, high = _ends(feature)
    span = f"{low} to {high}" if low and high else f"from {low}" if low else f"up to {high}"
    return OUTSIDE, f"outside the training range {span}"


def _ends(feature: Feature) -> tuple[str, str]:
    if feature.type == "datetime":
        return feature.earliest, feature.latest
    numbers = feature.minimum, feature.maximum
    low, high = ("" if number is None else shown_value(number) for number in numbers)
    return low, high
