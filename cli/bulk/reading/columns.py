"""Columns of texts as the columns of rows, at a tenth of the cost of cell by cell.

A cell that is not certainly a value of its feature is left to the rule for one cell,
`cli.input.layout.value_of`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cli.input.layout import value_of
from model.card import Card, Feature
from model.errors import InvalidRow
from model.rows import are_held

Array = np.ndarray[Any, Any]
Texts = Sequence[str]


def parse(card: Card, columns: Sequence[Texts], decimal: str | None) -> tuple[Array, Array]:
    """The rows, and for each one whether it is valid.

    `columns` has the texts of each feature. The rows are as `model.predict.matrix` makes them;
    what an invalid row holds has no meaning.
    """
    count = len(columns[0])
    X: Array = np.empty((count, len(columns)), dtype=np.float64 if card.numeric else object)
    valid = np.ones(count, dtype=bool)
    for n, (feature, texts) in enumerate(zip(card.features, columns, strict=True)):
        if feature.type not in ("number", "integer"):
            X[:, n] = _values(feature, texts, decimal, valid)
            continue
        numbers = _numbers(feature, texts, decimal, valid)
        is_mixed = feature.type == "integer" and not card.numeric
        X[:, n] = _whole(numbers, valid) if is_mixed else numbers
    return X, valid


def _numbers(feature: Feature, texts: Texts, decimal: str | None, valid: Array) -> Array:
    """The numbers of a column; marks in `valid` where there is none."""
    values, unclear = _floats(texts, decimal)
    memo = _Memo(feature, decimal)
    for n in np.flatnonzero(unclear).tolist():
        value = memo[texts[n]]
        values[n] = np.nan if isinstance(value, InvalidRow) or value is None else value
        valid[n] &= not isinstance(value, InvalidRow)
    valid &= are_held(feature, values)
    return values


def _floats(texts: Texts, decimal: str | None) -> tuple[Array, Array]:
    """The numbers of plain texts, and where a text is not plain."""
    joined = "\n".join(texts)
    if decimal == ",":
        texts = ["" if "." in text else text.replace(",", ".") for text in texts]
    try:
        values = np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        values = np.fromiter(map(_float, texts), np.float64, len(texts))
    unclear = ~np.isfinite(values)
    if "_" in joined:  # Python reads `1_5` as 15
        unclear |= ["_" in text for text in texts]
    return values, unclear


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _whole(values: Array, valid: Array) -> Array:
    """Whole numbers as those of Python, which a mixed table holds; NaN for a missing one."""
    present = np.isfinite(values) & valid
    mixed = values.astype(object)
    mixed[present] = values[present].astype(np.int64)
    return mixed


def _values(feature: Feature, texts: Texts, decimal: str | None, valid: Array) -> list[Any]:
    """The texts, booleans or other values of a column; marks in `valid` where there is none."""
    memo = _Memo(feature, decimal)
    values = [memo[text] for text in texts]
    if any(isinstance(value, InvalidRow) for value in memo.values()):
        valid &= [not isinstance(value, InvalidRow) for value in values]
    return [np.nan if value is None else value for value in values] if None in values else values


def values(feature: Feature, texts: Texts, decimal: str | None) -> list[Any]:
    """The value of each text, None for a missing one; a text that is no value stays a text."""
    memo = _Memo(feature, decimal)
    found = [memo[text] for text in texts]
    pairs = zip(found, texts, strict=True)
    return [(text or None) if isinstance(v, InvalidRow) else v for v, text in pairs]


class _Memo(dict[str, Any]):
    """The value of each text of a column, or its error; mostly a few texts repeat."""

    def __init__(self, feature: Feature, decimal: str | None) -> None:
        super().__init__()
        self._feature, self._decimal = feature, decimal

    def __missing__(self, text: str) -> Any:
        value: Any
        try:
            value = value_of(self._feature, text, self._decimal)
        except InvalidRow as e:
            value = e
        self[text] = value
        return value
