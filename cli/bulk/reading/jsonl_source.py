"""Rows of a file with one JSON object, or one list of values, in each line."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from cli.bulk.block import UNREADABLE, Block, Fault
from cli.bulk.dialect import Dialect
from cli.bulk.errors import InputUnusable
from cli.bulk.reading.source import Place, read_bytes_of, size_of, text_of
from cli.input.layout import key_of
from cli.input.lines import Lines
from cli.input.named import from_object
from cli.input.reader import Format
from model import rows
from model.card import Card, Value
from model.errors import InvalidRow
from model.predict import matrix

NAMELESS = "input"  # the name of what is no object

_decode = msgspec.json.Decoder().decode


class JsonlSource:
    """The records of a file of JSON lines."""

    def __init__(
        self, card: Card, stream: "io.BufferedReader[Any]", given: Format, place: Place
    ) -> None:
        self._card, self._stream = card, stream
        self._lines = Lines(stream, given.encoding)
        self._end = place.end
        self._keys = {key_of(name): name for name in card.names}
        self.dialect = Dialect()
        self.columns = place.columns or tuple(card.names)
        self.block_size = place.size
        self.unit = "line"

    @property
    def place(self) -> Place:
        return Place(self._lines.number, self.block_size, None, self.columns)

    @property
    def header(self) -> str:
        return self.dialect.line([*self.columns])

    @property
    def size(self) -> int | None:
        return size_of(self._stream)

    @property
    def read_bytes(self) -> int:
        return read_bytes_of(self._stream)

    def blocks(self) -> Iterator[Block]:
        self._lines.skip(self._end)
        is_first = not self._end
        while lines := self._lines.take(self.block_size):
            start = self._lines.number - len(lines)
            numbered = [(start + n, line) for n, line in enumerate(lines, 1) if line.strip()]
            if not numbered:
                continue
            block = self._block(numbered)
            if is_first:
                self.columns = self._columns_of(block.passed)
            is_first = False
            yield block
        if is_first:
            raise InputUnusable("the file is empty: it has no rows")

    def _columns_of(self, documents: Sequence[Any]) -> tuple[str, ...]:
        """The names in the first block, in the order of their first use."""
        names = dict.fromkeys(name for d in documents for name in _object(d, self._card))
        return tuple(names) or tuple(self._card.names)

    def _block(self, numbered: Sequence[tuple[int, str]]) -> Block:
        documents, found, faults = [], [], {}
        for n, (_, line) in enumerate(numbered):
            document: Any = line.rstrip("\r\n")
            try:
                document = _decode(document)
                found.append(self._row(document))
            except InvalidRow as e:
                faults[n] = Fault(e.code, str(e))
            except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
                faults[n] = Fault(UNREADABLE, f"not JSON: {e}")
            documents.append(document)
        width = len(self._card.features)
        X = matrix(found, self._card.numeric).reshape(-1, width)
        numbers = [number for number, _ in numbered]
        return Block(numbers, documents, X, faults, self._lines.number)

    def _row(self, document: Any) -> list[Value]:
        if isinstance(document, dict):
            return from_object(self._card, document, others=True)
        rows.check(self._card, [document])
        return list(document)

    def csv(self, passed: Sequence[Any]) -> Sequence[str]:
        columns = self.table(passed)
        return [self.dialect.line([text_of(v) for v in row]) for row in zip(*columns, strict=True)]

    def table(self, passed: Sequence[Any]) -> list[list[Any]]:
        objects = [_object(document, self._card) for document in passed]
        return [[document.get(name) for document in objects] for name in self.columns]

    def objects(self, passed: Sequence[Any]) -> list[dict[str, Any]]:
        return [dict(_object(document, self._card)) for document in passed]


def _object(document: Any, card: Card) -> Mapping[str, Any]:
    """A document with names: a list has those of the features."""
    if isinstance(document, dict):
        return document
    if isinstance(document, list) and len(document) == len(card.features):
        return dict(zip(card.names, document, strict=True))
    return {NAMELESS: document}
