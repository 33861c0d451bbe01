"""The one rule for a valid row, from the model card. Every door asks it.

An invalid row raises InvalidRow with one of these codes:

no_rows           there are no rows
too_many_rows     more rows than the limit
wrong_shape       not a list of rows, each a list of values
wrong_width       the model has another number of features
wrong_type        a text for a number, a number for a text, null where a value is required, a
                  number that is not whole for an integer, or one that the column cannot hold
not_finite        NaN, infinite, or too large for a 64-bit float
unknown_category  a value that is not one of the feature's categories
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from model import dates
from model.card import Card, Feature, Label, Value, shown
from model.errors import InvalidRow

if TYPE_CHECKING:
    import numpy as np

_REQUIRED = {
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "text": "a text",
    "datetime": f"a date or time such as {dates.EXAMPLE}",
}
_TRUTH = {"true": True, "false": False, "1": True, "0": False}
MAX_SHOWN = 40  # characters of a value, and names in a list, that a sentence repeats


def check(card: Card, X: Any) -> None:
    """Raise InvalidRow for the first invalid value of `X`, in row-major order.

    `X` comes from JSON or from Python: a list of rows, each a list with one value per feature.
    A missing value is None. How many rows are allowed is for `check_count`.
    """
    if not _is_valid(card.features, X):
        _raise_first_fault(card, X)


def check_array(features: Sequence[Feature], X: "np.ndarray[Any, Any]") -> None:
    """As `check`, for an array of numbers of shape (rows, features). A missing value is NaN."""
    import numpy as np  # only here: `petal --help` needs no numpy

    nullable = [feature.nullable for feature in features]
    allowed = np.isfinite(X) | (np.isnan(X) & nullable)
    for n, feature in enumerate(features):
        if feature.limits is not None:
            allowed[:, n] &= _are_within(feature, X[:, n])
        if feature.allowed:
            allowed[:, n] &= np.isin(X[:, n], feature.allowed) | np.isnan(X[:, n])
    if not allowed.all():
        row, column = np.argwhere(~allowed)[0].tolist()
        check_value(features[column], X[row, column].item(), place_of(row, len(X)))


def _are_within(feature: Feature, values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Whether each number is one that the feature's column holds, or missing."""
    import numpy as np

    low, high = feature.limits or (-np.inf, np.inf)
    whole = np.trunc(values) == values if feature.type == "integer" else True
    within: np.ndarray[Any, Any] = (whole & (values >= low) & (values <= high)) | np.isnan(values)
    return within


def check_count(rows: int, max_rows: int) -> None:
    """Raise InvalidRow for no rows, or for more than `max_rows`."""
    if not rows:
        raise InvalidRow("no_rows", "there are no rows")
    if rows > max_rows:
        raise InvalidRow("too_many_rows", f"got {rows} rows, the limit is {max_rows}")


def check_width(card: Card, values: int, place: str = "") -> None:
    """Raise InvalidRow unless a row of `values` values has one value per feature."""
    if values != len(card.features):
        raise InvalidRow(
            "wrong_width",
            f"{place}got {values} values, {card.name} takes {len(card.features)}: "
            f"{_listed(card.names)}",
        )


def check_value(feature: Feature, value: Any, place: str = "") -> None:
    """Raise InvalidRow unless the feature allows the value; the sentence begins with `place`."""
    found = _fault(feature, value)
    if found is not None:
        code, sentence = found
        raise InvalidRow(code, f"{place}{feature.name}: {sentence}")


def parse(card: Card, texts: Sequence[str]) -> list[Value]:
    """A row from texts that a person typed, one per feature in order; raises InvalidRow."""
    check_width(card, len(texts))
    return [parse_value(f, text) for f, text in zip(card.features, texts, strict=True)]


def parse_value(feature: Feature, text: str) -> Value:
    """A feature's value from a text that a person typed; raises InvalidRow.

    An empty text is a missing value for a number and for any nullable feature. Spaces may
    surround a number or a date; those of a text belong to it.
    """
    value = _from_text(feature, text)
    check_value(feature, value)
    return value


def place_of(row: int, rows: int) -> str:
    """The beginning of a sentence that says which of several rows it is about."""
    return f"row {row + 1} of {rows}, " if rows > 1 else ""


def _from_text(feature: Feature, text: str) -> Value:
    if feature.type == "text":
        return None if feature.nullable and not text else text
    text = text.strip()
    if not text:
        return None
    if feature.type == "datetime":
        return text
    if feature.type == "boolean" and (truth := _TRUTH.get(text.lower())) is not None:
        return truth
    return _number_from(feature, text)


def _number_from(feature: Feature, text: str) -> Value:
    """The number in a text, or the text if it has none."""
    if "_" in text:  # Python reads `1_5` as 15
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if feature.type == "integer" and number.is_integer() else number


def _is_valid(features: Sequence[Feature], X: Any) -> bool:
    """Whether all rows are certainly valid. By column, at a tenth of the cost of by value.

    False for a few rows that are valid, such as tuples.
    """
    if type(X) is not list or set(map(type, X)) - {list} or set(map(len, X)) - {len(features)}:
        return False
    return all(map(_is_valid_column, features, zip(*X, strict=True)))


def _is_valid_column(feature: Feature, values: tuple[Any, ...]) -> bool:
    types = set(map(type, values))
    if feature.nullable and type(None) in types:
        types.remove(type(None))
        values = tuple(value for value in values if value is not None)
    if feature.type == "text":
        is_valid = types <= {str}
    elif feature.type == "boolean":
        is_valid = types <= {bool, int, float} and set(values) <= {0, 1}
    elif feature.type == "datetime":
        is_valid = types <= {str} and not any(dates.fault(feature.dtype, v) for v in set(values))
    else:
        is_valid = types <= {int, float} and _are_finite(values) and _is_held(feature, values)
    return is_valid and (not feature.allowed or set(values) <= {*feature.allowed})


def _is_held(feature: Feature, values: Sequence[float]) -> bool:
    """Whether the feature's column can hold these finite numbers."""
    if feature.limits is None or not values:
        return True
    low, high = feature.limits
    if not low <= min(values) <= max(values) <= high:
        return False
    return feature.type != "integer" or all(map(float.is_integer, map(float, values)))


def _are_finite(values: Sequence[float]) -> bool:
    try:
        return all(map(math.isfinite, values))
    except OverflowError:  # an integer too large for a float
        return False


def _raise_first_fault(card: Card, X: Any) -> None:
    if not isinstance(X, list | tuple):
        raise InvalidRow("wrong_shape", "X must be a list of rows, each a list of values")
    for n, row in enumerate(X):
        place = place_of(n, len(X))
        if not isinstance(row, list | tuple):
            raise InvalidRow("wrong_shape", f"{place}{shown_value(row)} is not a list of values")
        check_width(card, len(row), place)
        for feature, value in zip(card.features, row, strict=True):
            check_value(feature, value, place)


def _fault(feature: Feature, value: Any) -> tuple[str, str] | None:
    """The code and the sentence for an invalid value."""
    if value is None:
        sentence = f"the value is missing; {_REQUIRED[feature.type]} is required"
        return None if feature.nullable else ("wrong_type", sentence)
    fault = _fault_of_type(feature, value)
    if fault is None and feature.allowed and value not in feature.allowed:
        return "unknown_category", f"{shown_value(value)} is not one of: {_listed(feature.allowed)}"
    return fault


def _fault_of_type(feature: Feature, value: Any) -> tuple[str, str] | None:
    if feature.type == "text":
        return (
            None
            if isinstance(value, str)
            else ("wrong_type", f"{shown_value(value)} is not a text")
        )
    if feature.type == "boolean":
        is_valid = isinstance(value, bool | int | float) and value in (0, 1)
        return None if is_valid else ("wrong_type", f"{shown_value(value)} is not true or false")
    if feature.type == "datetime":
        return _date_fault(feature, value)
    return _number_fault(feature, value)


def _date_fault(feature: Feature, value: Any) -> tuple[str, str] | None:
    if not isinstance(value, str):
        return "wrong_type", f"{shown_value(value)} is not {_REQUIRED[feature.type]}"
    fault = dates.fault(feature.dtype, value)
    return None if fault is None else ("wrong_type", f"{shown_value(value)} {fault}")


def _number_fault(feature: Feature, value: Any) -> tuple[str, str] | None:
    kind = _REQUIRED[feature.type]
    if not _is_number(value):
        return "wrong_type", f"{shown_value(value)} is not {kind}"
    if not _are_finite([value]):
        return "not_finite", f"{shown_value(value)} is not a finite number"
    if _is_held(feature, [value]):
        return None
    if feature.type == "integer" and not float(value).is_integer():
        return "wrong_type", f"{shown_value(value)} is not {kind}"
    low, high = feature.limits or (-math.inf, math.inf)
    return (
        "wrong_type",
        f"{shown_value(value)} is not {kind} from {shown_value(low)} to {shown_value(high)}",
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listed(values: Sequence[Label]) -> str:
    return ", ".join(map(shown, values[:MAX_SHOWN])) + (", …" if len(values) > MAX_SHOWN else "")


def shown_value(value: Any) -> str:
    """A value in a sentence: as in JSON, short, and without control characters."""
    if isinstance(value, str):
        return repr(value[:MAX_SHOWN] + "…" if len(value) > MAX_SHOWN else value)
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if _is_number(value):
        return _shown_number(value)
    return f"a value of type {type(value).__name__}"


def _shown_number(value: float) -> str:
    """A number in the same way whether a reader of JSON made it an int or a float."""
    if not _are_finite([value]):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return repr(float(value)).removesuffix(".0")
