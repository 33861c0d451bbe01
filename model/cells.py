"""The texts of a table's cells as typed columns: numbers, true or false, or texts as they are.

A column of whole numbers with leading zeros, such as postcodes, stays text, and so does one with a
number beyond 2^53, which no JSON carries exactly.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from model.card import MAX_INTEGER
from model.delimited import DECIMAL_COMMA, MISSING, THOUSANDS
from model.errors import TableError

WHOLE_NUMBER = re.compile(r"[+-]?\d+")
LEADING_ZERO = re.compile(r"^[+-]?0\d+$", re.MULTILINE)
TRUTH = {"true": True, "false": False}

Array = np.ndarray[Any, Any]


class _Commas(NamedTuple):
    """Texts that are numbers if the comma is a decimal sign. Unclear: it may separate thousands."""

    texts: "_Texts"
    is_clear: bool


class _Texts(NamedTuple):
    """The texts of a column as they are, those that are present without spaces, and where."""

    column: Array
    stripped: list[str]
    present: Array


def typed(columns: Mapping[str, Array], decimal: str | None, delimiter: str) -> Mapping[str, Any]:
    """Each column of texts, None or NaN where one is missing, with the type of its values.

    `decimal` None: to be found in each column, where the delimiter allows a decimal comma. Raises
    TableError if a comma may as well separate thousands.
    """
    found: dict[str, Any] = {}
    commas: dict[str, _Commas] = {}
    may_be_comma = decimal == "," or (decimal is None and delimiter != ",")
    for name, column in columns.items():
        texts = _texts(column)
        if may_be_comma and (has_commas := _with_commas(texts)) is not None:
            commas[name] = has_commas
        else:
            found[name] = _typed(texts, has_points=decimal != ",")
    _check_commas(commas, decimal)
    found |= {name: _typed_commas(each.texts) for name, each in commas.items()}
    return {name: found[name] for name in columns}


def _texts(column: Array) -> _Texts:
    present = pd.notna(column)
    stripped = [text.strip() for text in column[present]]
    if not MISSING.isdisjoint(stripped):
        kept = [text not in MISSING for text in stripped]
        present[present] = kept
        stripped = [text for text in stripped if text not in MISSING]
    return _Texts(column, stripped, present)


def _typed(texts: _Texts, has_points: bool = True) -> Any:
    if not texts.stripped:
        return np.full(len(texts.column), np.nan)
    distinct = {text.lower() for text in texts.stripped[:3]}
    if distinct <= TRUTH.keys() and {text.lower() for text in texts.stripped} <= TRUTH.keys():
        return _booleans(texts)
    if distinct.isdisjoint(TRUTH):
        numbers = _numbers(texts.stripped)
        if numbers is not None and (has_points or numbers.dtype.kind == "i"):
            return _spread(numbers, texts.present)
    return pd.Series(texts.column, dtype="str").array


def _booleans(texts: _Texts) -> Any:
    values = [TRUTH[text.lower()] for text in texts.stripped]
    if texts.present.all():
        return np.array(values)
    column = np.full(len(texts.column), np.nan, dtype=object)
    column[texts.present] = values
    return column


def _numbers(stripped: Sequence[str]) -> Array | None:
    """The numbers of texts, as 64-bit integers or floats; None if one is no number."""
    objects = np.array(stripped, dtype=object)
    try:
        numbers: Array = pd.to_numeric(objects)
    except (ValueError, TypeError):
        return None
    if LEADING_ZERO.search("\n".join(stripped)):
        return None
    if all(map(WHOLE_NUMBER.fullmatch, stripped)):
        is_exact = numbers.dtype.kind == "i" and np.abs(numbers).max() <= MAX_INTEGER
        return numbers if is_exact else None
    # Python's float rounds correctly, as the other doors do; pandas may miss the last digit.
    return objects.astype(np.float64)


def _spread(numbers: Array, present: Array) -> Array:
    if present.all():
        return numbers
    column = np.full(len(present), np.nan)
    column[present] = numbers
    return column


def _with_commas(texts: _Texts) -> _Commas | None:
    """The texts if they are numbers of which at least one has a decimal comma."""
    with_commas = [text for text in texts.stripped if "," in text]
    if not with_commas or not all(map(DECIMAL_COMMA.fullmatch, with_commas)):
        return None
    others = (text for text in texts.stripped if "," not in text)
    if not all(map(WHOLE_NUMBER.fullmatch, others)):
        return None
    return _Commas(texts, not all(map(THOUSANDS.fullmatch, with_commas)))


def _typed_commas(texts: _Texts) -> Any:
    stripped = [text.replace(",", ".") for text in texts.stripped]
    return _typed(texts._replace(stripped=stripped))


def _check_commas(columns: Mapping[str, _Commas], decimal: str | None) -> None:
    if decimal == "," or any(each.is_clear for each in columns.values()):
        return
    for name, each in columns.items():
        text = next(text for text in each.texts.stripped if "," in text)
        raise TableError(
            f"column {name}: the comma in {text!r} may be a decimal sign or separate thousands; "
            "give --decimal , or --decimal ."
        )
