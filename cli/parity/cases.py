"""The rows that `petal parity` asks: good and bad ones, made from the card or read from a file."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cli.input.layout import value_of
from cli.input.reader import Format, RowsReader
from model.card import Card, Feature
from model.errors import InvalidRow
from model.examples import varied_rows

GOOD_ROWS = 16  # made from the card
MAX_FEATURES = 8  # of which the rows made from the card have a bad value
NO_NUMBER = "abc"
NO_CATEGORY = "no such category"


class Case(NamedTuple):
    """A row as JSON has it, valid or not, and the place that it comes from."""

    place: str
    row: list[Any]


def from_card(card: Card) -> list[Case]:
    """Rows between the ends of what the features allow, and rows with one fault each."""
    good = [[*row] for row in varied_rows(card, GOOD_ROWS)]
    rows = [*good, *_without_a_value(card, good[0]), *_invalid(card, good[0])]
    return [Case(f"row {n}", row) for n, row in enumerate(rows, 1)]


def _without_a_value(card: Card, good: Sequence[Any]) -> Iterator[list[Any]]:
    """A row for each feature that may be missing, without its value."""
    for n, feature in enumerate(card.features[:MAX_FEATURES]):
        if feature.nullable:
            yield [*good[:n], None, *good[n + 1 :]]


def _invalid(card: Card, good: Sequence[Any]) -> Iterator[list[Any]]:
    for n, feature in enumerate(card.features[:MAX_FEATURES]):
        for value in _bad_values(feature):
            yield [*good[:n], value, *good[n + 1 :]]
    if len(good) > 1:
        yield [*good[:-1]]
    yield [*good, good[-1]]


def _bad_values(feature: Feature) -> Iterator[Any]:
    if feature.type == "text":
        if feature.categories:
            yield NO_CATEGORY
        return
    yield NO_NUMBER
    if feature.type == "boolean":
        return
    yield math.inf
    if feature.type == "integer":
        yield 2.5
    if not feature.nullable:
        yield None


def from_file(card: Card, path: Path, layout: Format) -> list[Case]:
    """The rows of a CSV file; a value that is not valid is kept as it is written.

    Lines whose values cannot be told apart are left out. Raises OSError and UnreadableInput.
    """
    cases: list[Case] = []
    with path.open("rb") as file:
        reader = RowsReader(card, file, layout, lambda _: None)
        for row in reader:
            if not isinstance(row, Exception):
                cases.append(Case(f"row {len(cases) + 1}", row))
            elif isinstance(row, InvalidRow) and reader.record:
                written = [*map(_written, card.features, reader.record)]
                written += reader.record[len(written) :]
                cases.append(Case(str(row).partition(":")[0], written))
    return cases


def _written(feature: Feature, text: str) -> Any:
    """The value of a cell as JSON has it: its number, if it is one, else its text."""
    try:
        return value_of(feature, text)
    except InvalidRow:
        return text if feature.type == "text" else _number(text)


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text
