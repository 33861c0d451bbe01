"""How lines of text become the values of a row: the delimiter, the decimal sign, the columns."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cli.input.errors import UnreadableInput, UnreadableLine
from model import rows
from model.card import Card, Feature, Value
from model.errors import InvalidRow
from model.tabular.delimited import (
    DECIMAL_COMMA,
    DELIMITERS,
    MAX_RECORD_CHARACTERS,
    MISSING,
    NAMES,
    QUOTES,
    SPACES,
    THOUSANDS,
    WHOLE,
)

MAX_SHOWN = 8  # names in a sentence


class Layout(NamedTuple):
    """How the records of a file become rows.

    `decimal` is None until a number shows what it is. `columns` are the positions of the card's
    features, in their order, among `width` ones.
    """

    delimiter: str
    decimal: str | None
    columns: tuple[int, ...]
    width: int
    unused: tuple[str, ...] = ()  # names of other columns
    named: bool = False  # by a header
    names: tuple[str, ...] = ()  # of all columns, as the header has them

    def cells(self, card: Card, record: Sequence[str]) -> list[str]:
        """The texts of the features, in the card's order; raises InvalidRow."""
        if len(record) != self.width:
            if not self.named:
                rows.check_width(card, len(record))
            raise InvalidRow(
                "wrong_width", f"got {len(record)} values, the header has {self.width} columns"
            )
        return [record[n] for n in self.columns]

    def row(self, card: Card, cells: Sequence[str]) -> list[Value]:
        """The row of the features' texts; raises InvalidRow."""
        return [
            value_of(feature, cell, self.decimal)
            for feature, cell in zip(card.features, cells, strict=True)
        ]


def value_of(feature: Feature, text: str, decimal: str | None = None) -> Value:
    """A feature's value from the text of a cell; raises InvalidRow."""
    number = not feature.is_text
    is_missing = (text if feature.type == "text" else text.strip()) in MISSING
    if is_missing and feature.nullable and text not in (*feature.categories, *feature.seen):
        return None
    if number and decimal == ",":
        if "." in text:
            raise InvalidRow(
                "wrong_type", f"{feature.name}: {text!r} has a point, and the decimal sign is ','"
            )
        text = text.replace(",", ".")
    if text.startswith((" ", "\t")) and text.lstrip().startswith('"'):
        raise InvalidRow("wrong_type", f"{feature.name}: a quote follows a space: {text[:40]!r}")
    try:
        return rows.parse_value(feature, text)
    except InvalidRow as e:
        if number and decimal != "," and DECIMAL_COMMA.fullmatch(text):
            raise InvalidRow(e.code, f"{e}; for decimal commas give --decimal ,") from e
        raise


def split(line: str, delimiter: str, following: Iterable[str] = ()) -> list[str]:
    """The values of the record that begins with `line`, quoted ones without their quotes.

    A quoted value may continue in the lines that follow. Raises csv.Error.
    """
    if delimiter == SPACES:
        cells = line.split()
        if not all(map(str.strip, line.rstrip("\r\n").split("\t"))):
            raise csv.Error("two tabs without a value between them")
        return cells
    return next(csv.reader(_limited(line, following), delimiter=delimiter, strict=True))


def _limited(line: str, following: Iterable[str]) -> Iterator[str]:
    yield line
    characters = 0
    for added in following:
        characters += len(added)
        if characters > MAX_RECORD_CHARACTERS:
            raise csv.Error("a quote that is not closed")
        yield added


class LayoutFinder:
    """Finds the layout from the first lines."""

    def __init__(self, card: Card, delimiter: str | None = None, decimal: str | None = None):
        self._card = card
        self._given, self._decimal = delimiter, decimal
        self._keys = [key_of(name) for name in card.names]

    def candidates(self, line: str) -> list[str]:
        """The delimiters that may separate the values of a line."""
        if self._given is not None:
            return [self._given]
        found = [d for d in DELIMITERS if d in line and not (d == self._decimal == ",")]
        if len(self._card.features) == 1:
            return [WHOLE, *found]
        return [*found, SPACES] if self.can_be_spaces else found

    @property
    def can_be_spaces(self) -> bool:
        """Whether spaces may separate values: a free text may have spaces of its own."""
        features = self._card.features
        return len(features) > 1 and all(f.type != "text" or f.categories for f in features)

    def from_header(self, splits: Mapping[str, Sequence[str]]) -> Layout | None:
        """The layout of a first record with the features' names, or None if it has none of them.

        `splits` has the record's values by delimiter. Raises UnreadableInput.
        """
        hits = {d: len(set(self._keys) & set(map(key_of, cells))) for d, cells in splits.items()}
        delimiter = max(hits, key=lambda d: hits[d], default=None)
        if delimiter is None or not hits[delimiter]:
            return None
        names = [cell.strip() for cell in splits[delimiter]]
        return self._layout_of(names, WHOLE if len(names) == 1 else delimiter)

    def _layout_of(self, names: list[str], delimiter: str) -> Layout:
        # Names that differ only in case, spaces or dashes are those of other columns.
        is_exact = {name.strip() for name in self._card.names} <= set(names)
        own, keys = (
            [name.strip() if is_exact else key_of(name) for name in each]
            for each in (self._card.names, names)
        )
        missing = [n for n, key in zip(self._card.names, own, strict=True) if key not in keys]
        if missing:
            raise UnreadableInput(
                f"the header has no column for: {listed(missing)}; it has: {listed(names)}"
            )
        if twice := [names[keys.index(key)] for key in own if keys.count(key) > 1]:
            raise UnreadableInput(f"the header has two columns with the name {twice[0]}")
        unused = tuple(
            name or f"column {n + 1}, which has no name"
            for n, name in enumerate(names)
            if keys[n] not in own
        )
        columns = tuple(keys.index(key) for key in own)
        return Layout(delimiter, self._decimal, columns, len(names), unused, True, tuple(names))

    def from_row(self, splits: Mapping[str, Sequence[str]]) -> Layout | None:
        """The layout in which a record is a row, or None if there is none.

        Raises UnreadableInput if there are several that give different rows.
        """
        fitting = {d: c for d, c in splits.items() if len(c) == len(self._card.features)}
        valid = [d for d, cells in fitting.items() if self._is_valid(cells, self._decimal)]
        commas = [d for d, cells in fitting.items() if self.decimal_of(cells, d) == ","]
        readable = [*valid, *(() if self._decimal else commas)]
        if len({tuple(map(str.strip, fitting[d])) for d in readable}) > 1:
            named = " or ".join(NAMES[d] for d in fitting if d in readable)
            raise UnreadableInput(f"the delimiter may be {named}; give one with --delimiter")
        layouts = valid or commas
        return self.plain(layouts[0]) if layouts else None

    def plain(self, delimiter: str, decimal: str | None = None) -> Layout:
        """The layout without a header."""
        width = len(self._card.features)
        return Layout(delimiter, decimal or self._decimal, tuple(range(width)), width)

    def decimal_of(self, cells: Sequence[str], delimiter: str) -> str | None:
        """The decimal sign that a row's numbers show; None if they have none.

        Raises UnreadableLine if they may have decimal commas or thousands separators.
        """
        if self._decimal is not None or delimiter not in ("\t", ";", "|"):
            return self._decimal or "."
        pairs = zip(self._card.features, cells, strict=True)
        numbers = [cell for feature, cell in pairs if not feature.is_text]
        with_commas = [cell for cell in numbers if "," in cell]
        if any("." in cell and _is_like_a_number(cell) for cell in numbers):
            return "."
        if not with_commas or not self._is_valid(cells, ","):
            return None
        if all(map(THOUSANDS.fullmatch, with_commas)):
            raise UnreadableLine(
                f"the comma in {with_commas[0]!r} may be a decimal sign or separate thousands; "
                "give --decimal , or --decimal ."
            )
        return ","

    def _is_valid(self, cells: Sequence[str], decimal: str | None) -> bool:
        return not any(self._faults(cells, decimal))

    def _faults(self, cells: Sequence[str], decimal: str | None) -> list[bool]:
        faults = []
        for feature, cell in zip(self._card.features, cells, strict=True):
            try:
                value_of(feature, cell, decimal)
            except InvalidRow:
                faults.append(True)
            else:
                faults.append(False)
        return faults

    def check_is_no_header(self, splits: Mapping[str, Sequence[str]]) -> None:
        """Raise UnreadableInput for a record that looks like a header with other names.

        Its names would tell in which order the values are, so these are not guessed.
        """
        checked = [f.type != "text" or bool(f.categories) for f in self._card.features]
        for delimiter, cells in splits.items():
            if delimiter == SPACES or len(cells) != len(checked) or sum(checked) < 2:
                continue
            if not any(_is_like_a_number(c) or not c.strip() for c in cells) and (
                self._faults(cells, None) == checked
            ):
                raise UnreadableInput(
                    f"it looks like a header, and no name in it ({listed(cells)}) is "
                    f"that of a feature: {listed(self._card.names)}"
                )

    def fault(self, splits: Mapping[str, Sequence[str]], line: str) -> Exception:
        """Why a record is no row, as an error."""
        if not splits.keys() - {SPACES} and '"' in line:
            return UnreadableLine(QUOTES)
        words, width = line.split(), len(self._card.features)
        if (
            self._given is None
            and len(words) in range(min(width, 2), width + 1)
            and all(map(DECIMAL_COMMA.fullmatch, words))
        ):
            return UnreadableLine(
                f"the commas in {line.strip()[:40]!r} may be decimal signs or delimiters; give "
                "--decimal , or --delimiter ,"
            )
        if not splits:  # spaces may be part of a free text
            return UnreadableLine("no comma, semicolon, tab or bar separates its values")
        delimiter = min(splits, key=lambda d: (len(splits[d]) != width, d == SPACES))
        try:
            layout = self.plain(delimiter)
            layout.row(self._card, layout.cells(self._card, splits[delimiter]))
        except InvalidRow as e:
            return e
        raise AssertionError("a row that fits has a layout")


def key_of(name: str) -> str:
    """Names that differ in case, spaces or dashes are the same."""
    return re.sub(r"[\s_-]+", "_", name.strip()).casefold()


def _is_like_a_number(text: str) -> bool:
    return any(map(str.isdigit, text)) and not any(map(str.isalpha, text))


def listed(names: Sequence[str]) -> str:
    shown = ", ".join(name[:40] for name in names[:MAX_SHOWN])
    return shown + (f", … ({len(names)})" if len(names) > MAX_SHOWN else "")
