"""What the sources of rows have in common: a file, its columns, and its records in other forms."""

import io
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from cli.bulk.block import Block
from cli.bulk.dialect import Dialect
from cli.input.layout import Layout

FIRST_SIZE = 16_000  # bytes of the first block: a model may take long for a row


class Place(NamedTuple):
    """How far a file is read, to continue there.

    `end` counts lines, or rows; `size` is that of the next block, `layout` that of a CSV file.
    """

    end: int = 0
    size: int = FIRST_SIZE
    layout: Layout | None = None
    columns: tuple[str, ...] = ()


class Source(Protocol):
    """Records of a file.

    columns     their names, known when the first block is read
    block_size  bytes of the file that become the next block, about
    unit        what the numbers of a block count, `line` or `row`
    """

    dialect: Dialect
    columns: tuple[str, ...]
    block_size: int
    unit: str

    def blocks(self) -> Iterator[Block]:
        """The blocks of records, from the given place on.

        Raises InputUnusable or UnreadableInput for a file that cannot be read.
        """
        ...

    @property
    def place(self) -> Place:
        """What a later run needs to continue after the blocks that were read."""
        ...

    @property
    def size(self) -> int | None:
        """The bytes of the file, or None for a pipe."""
        ...

    @property
    def read_bytes(self) -> int:
        """How much of the file is read."""
        ...

    @property
    def header(self) -> str:
        """The names of the columns as CSV."""
        ...

    def csv(self, passed: Any) -> Sequence[str]:
        """The records as CSV in the source's dialect, without a line ending."""
        ...

    def table(self, passed: Any) -> list[list[Any]]:
        """The records as columns, in the order of `columns`; a missing value is None."""
        ...

    def objects(self, passed: Any) -> list[dict[str, Any]]:
        """The records as JSON objects."""
        ...


def size_of(stream: "io.BufferedReader[Any]") -> int | None:
    """The bytes of a file, or None for a pipe."""
    return os.fstat(stream.fileno()).st_size or None


def read_bytes_of(stream: "io.BufferedReader[Any]") -> int:
    """How much of a file is read; 0 of a pipe."""
    return stream.tell() if stream.seekable() else 0


def objects_of(columns: Sequence[str], table: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """The records of a table as JSON objects."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*table, strict=True)]


def text_of(value: Any) -> str:
    """A value of JSON or Parquet in CSV; one that is missing is empty."""
    if value is None or value != value:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
