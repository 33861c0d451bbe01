"""Values in sentences about them."""

import math
from collections.abc import Sequence
from typing import Any

from model.card import Label, in_list

MAX_SHOWN = 40  # characters of a value, and names in a list, that a sentence repeats
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def place_of(row: int, rows: int) -> str:
    """The beginning of a sentence that says which of several rows it is about."""
    return f"row {row + 1} of {rows}, " if rows > 1 else ""


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_finite(number: float) -> bool:
    """Whether a number is a finite 64-bit float."""
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer too large for a float
        return False


def listed(values: Sequence[Label]) -> str:
    return ", ".join(map(in_list, values[:MAX_SHOWN])) + (", …" if len(values) > MAX_SHOWN else "")


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
    if is_number(value):
        return shown_number(value)
    return f"a value of type {type(value).__name__}"


def shown_number(value: float) -> str:
    """A number in the same way whether a reader of JSON made it an int or a float."""
    try:
        text = repr(float(value)).removesuffix(".0")
    except OverflowError:  # an integer too large for a float
        text = "inf" if value > 0 else "-inf"
    return _NOT_FINITE.get(text, text)
