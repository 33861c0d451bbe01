"""Rows from standard input: CSV with or without a header, or values separated by spaces.

The delimiter is given or found once. A line that is no row costs only itself.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from cli.input.errors import UnreadableInput, UnreadableLine
from cli.input.layout import Layout, LayoutFinder, split
from cli.input.lines import Lines
from model.card import Card, Value
from model.delimited import QUOTES, SPACES
from model.errors import InvalidRow

Row = list[Value]


class Format(NamedTuple):
    """What the user says of the input; None: to be found."""

    delimiter: str | None = None
    decimal: str | None = None


class RowsReader:
    """Iterates over the rows of a stream; in place of a line that is no row, its error.

    Raises UnreadableInput if no line can be read. `note` gets a sentence about unused columns.
    `record` has the texts of the record that was read last, in the order of the features, or as
    they stand in the file if it has another number of columns.
    """

    record: Sequence[str] = ()

    def __init__(
        self,
        card: Card,
        stream: "io.BufferedReader[Any]",
        given: Format,
        note: Callable[[str], None],
    ) -> None:
        self._card = card
        self._lines = Lines(stream)
        self._given = given
        self._note = note
        self._finder = LayoutFinder(card, given.delimiter, given.decimal)
        self._layout: Layout | None = None
        self._header_is_possible = True

    def __iter__(self) -> Iterator[Row | Exception]:
        for line in self._lines:
            number = self._lines.number
            if self._is_blank(line):
                continue
            try:
                row = self._read(line)
            except UnreadableInput as e:
                raise UnreadableInput(f"line {number}: {e}") from e
            except UnreadableLine as e:
                yield UnreadableLine(f"line {number}: {e}")
            except InvalidRow as e:
                yield InvalidRow(e.code, f"line {number}: {e}")
            else:
                if row is not None:
                    self._header_is_possible = False
                    yield row

    def _is_blank(self, line: str) -> bool:
        """A line of delimiters alone is a row of empty values."""
        delimiter = SPACES if self._layout is None else self._layout.delimiter
        return not line.strip() and (delimiter == SPACES or delimiter not in line)

    def _read(self, line: str) -> Row | None:
        """The row that begins in a line; None for the header."""
        if self._layout is None:
            return self._find(line)
        if self._is_spaced(line, self._layout):
            return self._row(line, self._finder.plain(SPACES, self._layout.decimal))
        return self._row(line, self._layout)

    def _is_spaced(self, line: str, layout: Layout) -> bool:
        """Whether the values of this line are separated by spaces, unlike those of others."""
        return (
            self._finder.can_be_spaces
            and not layout.named
            and self._given.delimiter is None
            and layout.delimiter not in line
        )

    def _find(self, line: str) -> Row | None:
        """As `_read`, for a line that may be the header or show what the delimiter is."""
        splits = self._splits(line)
        if self._header_is_possible and (layout := self._finder.from_header(splits)) is not None:
            self._layout = layout
            self._split(line, layout.delimiter)
            self._header_is_possible = False
            if layout.unused:
                self._note(f"columns that the model does not use: {', '.join(layout.unused)}")
            return None
        self._lines.check(line)
        layout = self._finder.from_row(splits)
        if layout is None:
            if self._header_is_possible:
                self._finder.check_is_no_header(splits)
            raise self._finder.fault(splits, line)
        if layout.delimiter != SPACES:
            self._layout = layout
        return self._row(line, layout)

    def _splits(self, line: str) -> dict[str, list[str]]:
        """The values of a record by each delimiter that it can be read with."""
        found = {}
        for delimiter in self._finder.candidates(line):
            taken: list[str] = []
            with suppress(csv.Error):
                found[delimiter] = split(line, delimiter, self._following(taken))
            self._lines.put_back(taken)
        return found

    def _row(self, line: str, layout: Layout) -> Row:
        self.record = self._split(line, layout.delimiter)
        cells = self.record = layout.cells(self._card, self.record)
        if layout.decimal is None:
            layout = layout._replace(decimal=self._finder.decimal_of(cells, layout.delimiter))
            if self._layout is not None:
                self._layout = self._layout._replace(decimal=layout.decimal)
        return layout.row(self._card, cells)

    def _split(self, line: str, delimiter: str) -> list[str]:
        """The values of a record, whose other lines are read; raises UnreadableLine."""
        taken: list[str] = []
        try:
            cells = split(line, delimiter, self._following(taken))
        except csv.Error as e:
            self._lines.put_back(taken)
            raise UnreadableLine(QUOTES) from e
        self._lines.check("".join((line, *taken)))
        return cells

    def _following(self, taken: list[str]) -> Iterator[str]:
        """The next lines, each added to `taken`."""
        for line in self._lines:
            taken.append(line)
            yield line
