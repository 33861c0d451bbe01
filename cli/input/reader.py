"""Rows of standard input or a file: CSV with or without a header, or values separated by spaces.

The delimiter is given or found once. A line that is no row costs only itself.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from cli.input.errors import UnreadableInput, UnreadableLine
from cli.input.layout import Layout, LayoutFinder, split
from cli.input.lines import Lines
from model.card import Card, Value
from model.errors import InvalidRow
from model.tabular.delimited import QUOTES, SPACES

Row = list[Value]


class Record(NamedTuple):
    """A record of the stream: the number of its first line, its lines, and its row or error."""

    number: int
    text: str
    row: Row | None
    error: UnreadableLine | InvalidRow | None


class Format(NamedTuple):
    """What the user says of the input; None: to be found."""

    delimiter: str | None = None
    decimal: str | None = None
    encoding: str | None = None


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
        self.lines = Lines(stream, given.encoding)
        self._given = given
        self._note = note
        self._finder = LayoutFinder(card, given.delimiter, given.decimal)
        self.layout: Layout | None = None
        self.header = ""  # the text of the header, if there is one
        self._header_is_possible = True
        self.line = 0  # the number of the line that the last row begins in

    def __iter__(self) -> Iterator[Row | Exception]:
        for record in self.records():
            e = record.error
            if isinstance(e, InvalidRow):
                yield InvalidRow(e.code, f"line {record.number}: {e}")
            elif e is not None:
                yield UnreadableLine(f"line {record.number}: {e}")
            elif record.row is not None:
                yield record.row

    def records(self) -> Iterator[Record]:
        """The records with the text that they were read from; raises UnreadableInput."""
        for line in self.lines:
            number = self.line = self.lines.number
            if self.is_blank(line):
                continue
            self.lines.record = [line]
            row, error = None, None
            try:
                row = self._read(line)
            except UnreadableInput as e:
                raise UnreadableInput(f"line {number}: {self.lines.fault_of(line) or e}") from e
            except (UnreadableLine, InvalidRow) as e:
                error = e
            if row is None and error is None:
                continue
            self._header_is_possible = self._header_is_possible and row is None
            yield Record(number, "".join(self.lines.record), row, error)

    def reread(self, number: int, lines: Sequence[str]) -> Record:
        """The record of lines that were taken from the stream, the first with this number."""
        end = self.lines.number
        self.lines.put_back(lines)
        self.lines.number = number - 1
        record = next(self.records())
        self.lines.number = end
        return record

    def delimiter_of(self, record: Record) -> str | None:
        """What separates the values of a record; None if it is not known."""
        if self.layout is None:
            return None if record.row is None else SPACES
        return SPACES if self._is_spaced(record.text, self.layout) else self.layout.delimiter

    def is_blank(self, line: str) -> bool:
        """A line of delimiters alone is a row of empty values."""
        delimiter = SPACES if self.layout is None else self.layout.delimiter
        return not line.strip() and (delimiter == SPACES or delimiter not in line)

    def _read(self, line: str) -> Row | None:
        """The row that begins in a line; None for the header."""
        if self.layout is None:
            return self._find(line)
        if self._is_spaced(line, self.layout):
            return self._row(line, self._finder.plain(SPACES, self.layout.decimal))
        return self._row(line, self.layout)

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
        if (layout := self._of_header(line, splits)) is not None:
            self.layout = layout
            self._split(line, layout.delimiter)
            self.header = "".join(self.lines.record)
            self._header_is_possible = False
            if layout.unused:
                self._note(f"columns that the model does not use: {', '.join(layout.unused)}")
            return None
        self.lines.check(line)
        layout = self._finder.from_row(splits)
        if layout is None:
            if self._header_is_possible:
                self._finder.check_is_no_header(splits)
            raise self._finder.fault(splits, line)
        if layout.delimiter != SPACES:
            self.layout = layout
        return self._row(line, layout)

    def _of_header(self, line: str, splits: Mapping[str, Sequence[str]]) -> Layout | None:
        """The layout of the line if it is the header; raises UnreadableInput."""
        if not self._header_is_possible:
            return None
        try:
            return self._finder.from_header(splits)
        except UnreadableInput:
            try:
                self.lines.check(line)  # damaged names are why columns are missing
            except UnreadableLine as e:
                raise UnreadableInput(str(e)) from e
            raise

    def _splits(self, line: str) -> dict[str, list[str]]:
        """The values of a record by each delimiter that it can be read with."""
        found = {}
        for delimiter in self._finder.candidates(line):
            taken: list[str] = []
            with suppress(csv.Error):
                found[delimiter] = split(line, delimiter, self._following(taken))
            self.lines.put_back(taken)
        return found

    def _row(self, line: str, layout: Layout) -> Row:
        self.record = self._split(line, layout.delimiter)
        cells = self.record = layout.cells(self._card, self.record)
        if layout.decimal is None:
            layout = layout._replace(decimal=self._finder.decimal_of(cells, layout.delimiter))
            if self.layout is not None:
                self.layout = self.layout._replace(decimal=layout.decimal)
        return layout.row(self._card, cells)

    def _split(self, line: str, delimiter: str) -> list[str]:
        """The values of a record, whose other lines are read; raises UnreadableLine."""
        taken: list[str] = []
        try:
            cells = split(line, delimiter, self._following(taken))
        except csv.Error as e:
            self.lines.put_back(taken)
            raise UnreadableLine(QUOTES) from e
        self.lines.check("".join((line, *taken)))
        return cells

    def _following(self, taken: list[str]) -> Iterator[str]:
        """The next lines, each added to `taken`."""
        for line in self.lines:
            taken.append(line)
            yield line
