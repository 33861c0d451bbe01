"""Rows of a CSV file in blocks: as `cli.input.reader` reads them, at a tenth of the cost.

A block is split and parsed by column. What is not plain in it is read by `RowsReader`: a record
that is no row, or the whole block if its text is damaged or its quotes are.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from cli.bulk.block import UNREADABLE, Block, Fault
from cli.bulk.dialect import Dialect
from cli.bulk.errors import InputUnusable
from cli.bulk.reading import columns
from cli.bulk.reading.source import Place, objects_of, read_bytes_of, size_of
from cli.input.layout import Layout, split
from cli.input.reader import Format, Record, RowsReader
from model.card import Card, Value
from model.errors import InvalidRow
from model.predict import matrix
from model.tabular.delimited import MAX_RECORD_CHARACTERS, SPACES, WHOLE

FIRST_RECORDS = 100  # read one by one, from which the layout is known


class _Split(NamedTuple):
    """The records of some lines: the cells of each, and the span of its lines."""

    cells: list[list[str]]
    spans: list[tuple[int, int]]
    lines: list[str]

    def lines_of(self, n: int) -> list[str]:
        start, end = self.spans[n]
        return self.lines[start:end]

    def texts(self) -> list[str]:
        if len(self.spans) == len(self.lines):
            return [line.rstrip("\r\n") for line in self.lines]
        return ["".join(self.lines[start:end]).rstrip("\r\n") for start, end in self.spans]

    def is_plain(self, layout: Layout) -> bool:
        """Whether each record is as long as one may be, and its first line is no other record."""
        if len(self.spans) == len(self.lines):
            return True
        long = [self.lines[start:end] for start, end in self.spans if end - start > 1]
        is_sure = layout.named or layout.width == 1  # others may have lines of spaced values
        return all(
            (is_sure or layout.delimiter in lines[0])
            and sum(map(len, lines[1:])) <= MAX_RECORD_CHARACTERS
            for lines in long
        )


class CsvSource:
    """The records of a CSV file, or of one whose values are separated by spaces or tabs."""

    def __init__(
        self, card: Card, stream: "io.BufferedReader[Any]", given: Format, place: Place
    ) -> None:
        self._card, self._stream = card, stream
        self._reader = RowsReader(card, stream, given, note=lambda _: None)
        self._lines = self._reader.lines
        self._given = given
        self._place = place
        self.dialect = Dialect(given.delimiter or ",", given.decimal or ".")
        self.columns = place.columns or tuple(card.names)
        self.block_size = place.size
        self.unit = "line"
        self.first_records = FIRST_RECORDS

    @property
    def header(self) -> str:
        """The names of the columns, as the file has them."""
        layout = self._reader.layout
        if self._reader.header and layout is not None and layout.delimiter != WHOLE:
            return self._reader.header.rstrip("\r\n")
        return self.dialect.line([*self.columns])

    @property
    def place(self) -> Place:
        return Place(self._lines.number, self.block_size, self._reader.layout, self.columns)

    @property
    def size(self) -> int | None:
        return size_of(self._stream)

    @property
    def read_bytes(self) -> int:
        return read_bytes_of(self._stream)

    def blocks(self) -> Iterator[Block]:
        if self._place.end:
            self._find_dialect(next(self._lines, ""))
            self._lines.skip(self._place.end)
            self._reader.layout = self._place.layout
        else:
            first = self._read_slowly(self.first_records, None)
            self._find_dialect(self._reader.header or (first.passed[0] if first.passed else ""))
            if first.numbers:
                yield first
            elif not self._reader.header:
                raise InputUnusable("the file is empty: it has no header and no rows")
        while (block := self._next()) is not None:
            if block.numbers:
                yield block

    def _find_dialect(self, line: str) -> None:
        layout = self._reader.layout or self._place.layout
        if layout is not None and layout.names:
            self.columns = layout.names
        self.dialect = Dialect(
            _written(layout, self._given),
            (None if layout is None else layout.decimal) or self.dialect.decimal,
            "\r\n" if line.endswith("\r\n") else "\n",
            self._lines.has_mark,
        )

    def _next(self) -> Block | None:
        """The next block; None at the end of the file."""
        layout = self._reader.layout
        if layout is None or layout.delimiter == SPACES:
            block = self._read_slowly(None, None)
            return block if block.numbers else None
        start = self._lines.number
        lines = self._lines.take(self.block_size)
        if not lines:
            return None
        found = self._split(layout, lines)
        if found is None:
            return self._read_slowly(None, start + len(lines))
        return self._parse(layout, found, start)

    def _split(self, layout: Layout, lines: list[str]) -> _Split | None:
        """The records of the lines, and of those that the last record needs; None: not plain."""
        taken = list(lines)

        def more() -> Iterator[str]:
            yield from lines
            for line in self._lines:
                taken.append(line)
                yield line

        reader = csv.reader(more(), delimiter=layout.delimiter, strict=True)
        found = _Split([], [], taken)
        try:
            while (start := reader.line_num) < len(lines):
                record = next(reader)
                if not (len(record) < 2 and self._reader.is_blank(taken[start])):
                    found.cells.append(record)
                    found.spans.append((start, reader.line_num))
            is_plain = self._lines.is_clean("".join(taken))
        except csv.Error:
            is_plain = False
        self._lines.record.clear()
        if is_plain and found.spans and found.is_plain(layout):
            return found
        self._lines.put_back(taken)
        return None

    def _parse(self, layout: Layout, found: _Split, start: int) -> Block | None:
        cells = found.cells
        fits = np.fromiter(map(len, cells), np.int64, len(cells)) == layout.width
        fitting = cells if fits.all() else [c for c, ok in zip(cells, fits, strict=True) if ok]
        by_column = list(zip(*fitting, strict=True)) or [()] * layout.width
        texts = [by_column[n] for n in layout.columns]
        if layout.decimal is None and self._shows_decimal(texts):
            self._lines.put_back(found.lines)
            return self._read_slowly(None, start + len(found.lines))
        X, valid = columns.parse(self._card, texts, layout.decimal)
        fits[np.flatnonzero(fits)[~valid]] = False
        return self._complete(found, X[valid], fits, start)

    def _complete(self, found: _Split, X: columns.Array, fits: columns.Array, start: int) -> Block:
        """The block, whose records that do not fit are read one by one. `X`: those that do."""
        layout = self._reader.layout
        is_whole = layout is not None and layout.delimiter == WHOLE
        passed = [self.dialect.quoted(c[0]) for c in found.cells] if is_whole else found.texts()
        faults, rows = {}, {}
        for n in np.flatnonzero(~fits).tolist():
            number = start + 1 + found.spans[n][0]
            record = self._reader.reread(number, found.lines_of(n))
            passed[n] = self._fit(record)
            if record.row is None:
                faults[n] = _fault(record.error)
            else:  # separated by spaces, unlike the others
                rows[n] = record.row
        if rows:
            X = _merged(X, fits, rows, self._card.numeric)
        numbers = [start + 1 + first for first, _ in found.spans]
        return Block(numbers, passed, X, faults, self._lines.number)

    def _shows_decimal(self, texts: Sequence[Sequence[str]]) -> bool:
        """Whether a number may show what the decimal sign is."""
        pairs = zip(self._card.features, texts, strict=True)
        joined = "".join("".join(column) for feature, column in pairs if feature.type != "text")
        return "," in joined or "." in joined

    def _read_slowly(self, records: int | None, line: int | None) -> Block:
        """A block of so many records, or of those up to a line, read one by one."""
        found: list[Record] = []
        size = 0
        while line is None or self._lines.number < line:
            record = next(self._reader.records(), None)
            if record is None:
                break
            found.append(record)
            size += len(record.text)
            if len(found) == records or (line is None and size > self.block_size):
                break
        rows = [record.row for record in found if record.row is not None]
        width = len(self._card.features)
        X = matrix(rows, self._card.numeric).reshape(-1, width)
        faults = {n: _fault(r.error) for n, r in enumerate(found) if r.error is not None}
        passed = [self._fit(record) for record in found]
        return Block([r.number for r in found], passed, X, faults, self._lines.number)

    def _fit(self, record: Record) -> str:
        """The record's text, with as many values as the file has columns."""
        delimiter = self._reader.delimiter_of(record)
        layout = self._reader.layout
        width = len(self._card.features) if layout is None else layout.width
        text = record.text.rstrip("\r\n")
        return fit(text, delimiter, Dialect(_written(layout, self._given)), width)

    def csv(self, passed: Sequence[str]) -> Sequence[str]:
        return passed

    def table(self, passed: Sequence[str]) -> list[list[Any]]:
        layout = self._reader.layout
        reader = csv.reader(
            (text.encode("utf-8", "backslashreplace").decode() for text in passed),
            delimiter=self.dialect.delimiter,
        )
        found: list[list[Any]] = [list(column) for column in zip(*reader, strict=True)]
        places = range(len(found)) if layout is None else layout.columns
        for feature, n in zip(self._card.features, places, strict=True):
            found[n] = columns.values(feature, found[n], self.dialect.decimal)
        return found

    def objects(self, passed: Sequence[str]) -> list[dict[str, Any]]:
        return objects_of(self.columns, self.table(passed))


def _merged(
    X: columns.Array, fits: columns.Array, rows: dict[int, list[Value]], numeric: bool
) -> columns.Array:
    """The rows of the records that fit, and of others by their positions, in order."""
    merged: columns.Array = np.empty((len(fits), X.shape[1]), dtype=X.dtype)
    merged[fits] = X
    merged[[*rows]] = matrix([*rows.values()], numeric)
    is_row = fits.copy()
    is_row[[*rows]] = True
    return merged[is_row]


def _fault(error: Exception | None) -> Fault:
    code = error.code if isinstance(error, InvalidRow) else UNREADABLE
    return Fault(code, str(error))


def _written(layout: Layout | None, given: Format) -> str:
    """The delimiter of the output."""
    delimiter = given.delimiter if layout is None else layout.delimiter
    return "," if delimiter in (None, SPACES, WHOLE) else delimiter


def fit(text: str, delimiter: str | None, dialect: Dialect, width: int) -> str:
    """A record as CSV with `width` values; nothing of its text is lost.

    `delimiter` is what separates its values; None: it is not known.
    """
    cells = [text]
    with suppress(csv.Error):
        found = split(text, delimiter or dialect.delimiter)
        if len(found) == width and delimiter in (None, dialect.delimiter):
            return text
        cells = cells if delimiter is None else found
    if len(cells) > width:
        cells = [*cells[: width - 1], dialect.delimiter.join(cells[width - 1 :])]
    cells += [""] * (width - len(cells))
    return dialect.line(cells)
