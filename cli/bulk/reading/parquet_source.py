"""Rows of a Parquet file, in batches."""

import datetime
import decimal
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from cli.bulk.block import Block, Fault
from cli.bulk.dialect import Dialect
from cli.bulk.errors import InputUnusable
from cli.bulk.reading.source import Place, objects_of, text_of
from cli.input.layout import key_of, listed
from model import rows
from model.card import Card, Feature
from model.errors import InvalidRow
from model.predict import matrix

BATCH_ROWS = 8192


class ParquetSource:
    """The records of a Parquet file; each has the number of its row, from 1."""

    def __init__(self, card: Card, stream: BinaryIO, place: Place) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            self._file = pq.ParquetFile(stream)
        except (pa.ArrowException, OSError) as e:
            raise InputUnusable(f"the file is not Parquet: {e}") from e
        self._card = card
        self._bytes = stream.seek(0, 2)
        self._end = place.end
        self.dialect = Dialect()
        self.block_size = place.size
        self.unit = "row"
        self.columns = tuple(self._file.schema_arrow.names)
        self._places = self._find_features()

    def _find_features(self) -> list[int]:
        keys = [key_of(name) for name in self.columns]
        missing = [name for name in self._card.names if keys.count(key_of(name)) != 1]
        if missing:
            raise InputUnusable(
                f"the file must have one column for each of: {listed(missing)}; it has: "
                f"{listed(self.columns)}"
            )
        return [keys.index(key_of(name)) for name in self._card.names]

    @property
    def place(self) -> Place:
        return Place(self._end, self.block_size)

    @property
    def header(self) -> str:
        return self.dialect.line([*self.columns])

    @property
    def size(self) -> int | None:
        return self._bytes

    @property
    def read_bytes(self) -> int:
        count = self._file.metadata.num_rows
        return round(self._bytes * self._end / count) if count else self._bytes

    def blocks(self) -> Iterator[Block]:
        row = 0
        for batch in self._file.iter_batches(BATCH_ROWS):
            start, row = row, row + batch.num_rows
            if row > self._end:
                part = batch.slice(max(0, self._end - start))
                self._end = row
                yield self._block(part)

    def _block(self, batch: Any) -> Block:
        pairs = zip(self._card.features, self._places, strict=True)
        by_column = [_values(feature, batch.column(n).to_pylist()) for feature, n in pairs]
        found = [list(row) for row in zip(*by_column, strict=True)]
        faults = {}
        try:
            rows.check(self._card, found)
        except InvalidRow:
            faults = self._faults(found)
        valid = [row for n, row in enumerate(found) if n not in faults] if faults else found
        X = matrix(valid, self._card.numeric).reshape(-1, len(self._card.features))
        first = self._end - batch.num_rows + 1
        return Block(range(first, self._end + 1), batch, X, faults, self._end)

    def _faults(self, found: Sequence[list[Any]]) -> dict[int, Fault]:
        faults = {}
        for n, row in enumerate(found):
            try:
                rows.check(self._card, [row])
            except InvalidRow as e:
                faults[n] = Fault(e.code, str(e))
        return faults

    def csv(self, passed: Any) -> Sequence[str]:
        columns = self.table(passed)
        return [self.dialect.line([text_of(v) for v in row]) for row in zip(*columns, strict=True)]

    def table(self, passed: Any) -> list[list[Any]]:
        return [[_plain(value) for value in column.to_pylist()] for column in passed.columns]

    def objects(self, passed: Any) -> list[dict[str, Any]]:
        return objects_of(self.columns, self.table(passed))


def _values(feature: Feature, values: list[Any]) -> list[Any]:
    """The values of a column as JSON would have them; NaN is a missing value where one may be."""
    plain = list(map(_plain, values))
    return [None if v != v else v for v in plain] if feature.nullable else plain


def _plain(value: Any) -> Any:
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
