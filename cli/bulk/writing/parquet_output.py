"""A Parquet file, made of parts: a file without its end cannot be read or continued.

Each block is a part in a folder beside the output. At the end they become one file.
"""

import fcntl
import os
import shutil
from pathlib import Path
from typing import Any, Self

import msgspec

from cli.bulk.block import Block, Scores
from cli.bulk.errors import OutputUnusable
from cli.bulk.reading.source import Source
from cli.bulk.writing.added import Added
from cli.input.layout import key_of
from model.card import Card

TYPES = {"number": "float64", "integer": "int64", "boolean": "bool"}
PYTHON = {float: "float64", int: "int64", bool: "bool", str: "string"}


class ParquetOutput:
    """Parts of an output; `size` counts them."""

    def __init__(self, path: Path, source: Source, added: Added, card: Card, size: int) -> None:
        self._path, self._source, self._added, self._card = path, source, added, card
        self._size = size
        self._is_finished = False
        self._folder = path.with_name(path.name + ".parts")
        self._folder.mkdir(exist_ok=True)
        self._lock = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            os.close(self._lock)
            raise OutputUnusable(f"another petal is writing {path}") from e
        for part in self._folder.iterdir():
            if part.name not in {self._part(n).name for n in range(size)}:
                part.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)
        if self._is_finished:
            shutil.rmtree(self._folder)

    def _part(self, number: int) -> Path:
        return self._folder / f"{number:06}.parquet"

    def write(self, block: Block, scores: Scores) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = [*self._source.columns, *self._added.names]
        if isinstance(block.passed, pa.RecordBatch):
            columns = list(block.passed.columns)
        else:
            pairs = zip(self._source.columns, self._source.table(block.passed), strict=True)
            columns = [_array(values, self._type_of(name, values)) for name, values in pairs]
        added = self._added.columns(block, scores)
        columns += map(_array, added, self._added_types())
        part = self._part(self._size)
        with part.open("wb") as file:
            pq.write_table(pa.table(columns, names=names), file)
            file.flush()
            os.fsync(file.fileno())
        self._size += 1

    def _type_of(self, name: str, values: list[Any]) -> str:
        features = {key_of(f.name): f for f in self._card.features}
        feature = features.get(key_of(name))
        return _type_for(values) if feature is None else TYPES.get(feature.type, "string")

    def _added_types(self) -> list[str]:
        card = self._card
        label = TYPES.get(card.output, "string")
        if card.classes:
            kinds = set(map(type, card.classes))
            label = PYTHON[kinds.pop()] if len(kinds) == 1 else "string"
        elif card.kind == "outlier_detector":
            label = "int64"
        return [label, *["float64"] * len(self._added.numbers), "int64", "string", "string"]

    def sync(self) -> int:
        return self._size

    def finish(self) -> None:
        """Write all parts to one file, and rename it into place."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._size:
            raise OutputUnusable(f"the input has no rows; {self._path} is not written")
        whole = self._folder / "whole"
        parts = [self._part(n) for n in range(self._size)]
        fields = zip(*(pq.read_schema(part) for part in parts), strict=True)
        schema = pa.schema([(of[0].name, _common_type({f.type for f in of})) for of in fields])
        with pq.ParquetWriter(whole, schema) as writer:
            for part in parts:
                writer.write_table(pq.read_table(part).cast(schema, safe=False))
        whole.replace(self._path)
        self._is_finished = True


def _type_for(values: list[Any]) -> str:
    """The type that holds all values of a part's column."""
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return "null"
    if kinds == {int, float}:
        return "float64"
    kind = PYTHON.get(kinds.pop(), "string") if len(kinds) == 1 else "string"
    is_long = kind == "int64" and any(v is not None and not -(2**63) <= v < 2**63 for v in values)
    return "string" if is_long else kind


def _common_type(types: set[Any]) -> Any:
    """The type that holds a column of all parts, whose own types are given."""
    import pyarrow as pa

    present = types - {pa.null()}
    if len(present) == 1:
        return present.pop()
    return pa.float64() if present == {pa.int64(), pa.float64()} else pa.string()


def _array(values: list[Any], kind: str) -> Any:
    """A column of one type. What is not of this type, such as a bad value, is missing."""
    import pyarrow as pa

    if kind == "null":
        return pa.nulls(len(values))
    if kind == "string":
        texts = [v if v is None or isinstance(v, str) else _json(v) for v in values]
        return pa.array(texts, pa.string())
    types = {"float64": (int, float), "int64": (int,), "bool": (bool,)}[kind]
    held = [v if isinstance(v, types) and (kind == "bool") == isinstance(v, bool) else None
            for v in values]  # fmt: skip
    return pa.array(held, kind)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
