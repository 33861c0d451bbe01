"""The one rule for what a valid row is, by the model card. Every door asks here.

What is not valid raises InvalidRow, whose code is one of:

no_rows           there are no rows
too_many_rows     more rows than the limit
wrong_shape       not a list of rows, each a list of values
wrong_width       another number of values than the model has features
wrong_type        a text for a number, a number for a text, or null where a value is required
not_finite        NaN or infinite
unknown_category  a text that is not one of the feature's categories
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from model.card import Card, Feature, Value
from model.errors import InvalidRow

if TYPE_CHECKING:
    import numpy as np

MAX_SHOWN = 40  # characters of a value, and names of features, that a sentence repeats
NAMES_OF_JSON = {True: "true", False: "false"}


def check_count(rows: int, max_rows: int) -> None:
    """Raise InvalidRow for no rows, or for more than `max_rows`."""
    if not rows:
        raise InvalidRow("no_rows", "there are no rows")
    if rows > max_rows:
        raise InvalidRow("too_many_rows", f"got {rows} rows, the limit is {max_rows}")


def check(card: Card, X: Any) -> None:
    """Raise InvalidRow for the first value of `X`, in row-major order, that is not allowed.

    `X` is as it came from JSON or a caller: valid is a list of rows, each a list of one value
    for each feature.
    """
    if not _is_valid(card.features, X):
        _raise_first_fault(card, X)


def check_array(features: Sequence[Feature], X: "np.ndarray[Any, Any]") -> None:
    """As `check`, for numbers of shape (rows, features), in which NaN is a missing value."""
    import numpy as np  # only here: `petal --help` needs no numpy

    nullable = [feature.nullable for feature in features]
    allowed = np.isfinite(X) | (np.isnan(X) & nullable)
    if not allowed.all():
        row, column = np.argwhere(~allowed)[0].tolist()
        check_value(features[column], X[row, column].item(), place_of(row, len(X)))


def check_width(card: Card, values: int, place: str = "") -> None:
    """Raise InvalidRow unless a row of so many values has one for each feature."""
    if values != len(card.features):
        raise InvalidRow(
            "wrong_width",
            f"{place}got {values} values, {card.name} takes {len(card.features)}: {_names(card)}",
        )


def parse(card: Card, texts: Sequence[str]) -> list[Value]:
    """Texts typed by a person, one for each feature in order, as a row; raises InvalidRow."""
    check_width(card, len(texts))
    return [parse_value(f, text) for f, text in zip(card.features, texts, strict=True)]


def parse_value(feature: Feature, text: str) -> Value:
    """One text typed by a person as a feature's value; raises InvalidRow.

    An empty text is a missing value, unless the feature takes any text.
    """
    value = _typed(feature, text.strip())
    check_value(feature, value)
    return value


def _typed(feature: Feature, text: str) -> Value:
    if not text and (feature.nullable or feature.type == "number"):
        return None
    if feature.type == "text" or "_" in text:  # Python reads `1_5` as 15
        return text
    try:
        return float(text)
    except ValueError:
        return text


def _is_valid(features: Sequence[Feature], X: Any) -> bool:
    """Whether all rows are valid, looked at by column: a tenth of the cost of one by one."""
    if not isinstance(X, list) or not all(type(row) is list for row in X):
        return False
    if set(map(len, X)) - {len(features)}:
        return False
    return all(map(_is_valid_column, features, zip(*X, strict=True)))


def _is_valid_column(feature: Feature, values: tuple[Any, ...]) -> bool:
    kinds = set(map(type, values))
    if feature.nullable and type(None) in kinds:
        kinds.remove(type(None))
        values = tuple(value for value in values if value is not None)
    if feature.type == "text":
        return kinds <= {str} and (not feature.categories or set(values) <= {*feature.categories})
    return kinds <= {int, float} and all(map(_is_finite, values))


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


def _raise_first_fault(card: Card, X: Any) -> None:
    if not isinstance(X, list | tuple):
        raise InvalidRow("wrong_shape", "X must be a list of rows, each a list of values")
    for n, row in enumerate(X):
        place = place_of(n, len(X))
        if not isinstance(row, list | tuple):
            raise InvalidRow("wrong_shape", f"{place}{_shown(row)} is not a list of values")
        check_width(card, len(row), place)
        for feature, value in zip(card.features, row, strict=True):
            check_value(feature, value, place)


def check_value(feature: Feature, value: Any, place: str = "") -> None:
    """Raise InvalidRow unless the value is allowed; `place` says where it stands."""
    found = _fault(feature, value)
    if found is not None:
        code, sentence = found
        raise InvalidRow(code, f"{place}{feature.name}: {sentence}")


def _fault(feature: Feature, value: Any) -> tuple[str, str] | None:
    """What is wrong with a value, as a code and a sentence."""
    if value is None:
        wanted = f"a {feature.type} is required"
        return None if feature.nullable else ("wrong_type", f"the value is missing; {wanted}")
    if feature.type == "text":
        if not isinstance(value, str):
            return "wrong_type", f"{_shown(value)} is not a text"
        if feature.categories and value not in feature.categories:
            allowed = ", ".join(feature.categories)
            return "unknown_category", f"{_shown(value)} is not one of: {allowed}"
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "wrong_type", f"{_shown(value)} is not a number"
    if not _is_finite(value):
        return "not_finite", f"{_shown(value)} is not a finite number"
    return None


def place_of(row: int, rows: int) -> str:
    """Where a row stands among several, for the beginning of a sentence."""
    return f"row {row + 1} of {rows}, " if rows > 1 else ""


def _names(card: Card) -> str:
    names = ", ".join(card.names[:MAX_SHOWN])
    return names if len(card.names) <= MAX_SHOWN else f"{names}, …"


def _shown(value: Any) -> str:
    """A value as JSON has it, short and without control characters."""
    if isinstance(value, str):
        return repr(value if len(value) <= MAX_SHOWN else value[:MAX_SHOWN] + "…")
    if isinstance(value, list | tuple | dict):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return NAMES_OF_JSON[value]
    if isinstance(value, float):
        return _shown_float(value)
    if isinstance(value, int) and not _is_finite(value):
        return "a number of more than 300 digits"
    return str(value)[:MAX_SHOWN]


def _shown_float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return repr(value).replace("inf", "Infinity")
