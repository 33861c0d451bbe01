"""Records of `results` to apply, and what a database then holds."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from streams.codec import encode
from streams.events import Position, Result, Timings, new_id
from streams.projection.store import Applied, Store
from streams.records import Chunk


class Record(NamedTuple):
    offset: int
    value: bytes | None
    timestamp: int = 1_763_920_000_123
    key: bytes | None = None


def result(offset: int, task_id: str | None = None, label: str = "setosa") -> Result:
    return Result(
        v=1, id=task_id or new_id(), y=[label], proba=[[0.9, 0.1]], model="iris@0123456789ab",
        worker="host-1", task=Position(0, offset), ms=Timings(1.5, 0.25),
    )  # fmt: skip


def records(*results: Result, first: int = 0) -> list[Record]:
    return [Record(first + n, encode(r)) for n, r in enumerate(results)]


def apply(store: Store, partition: int, first: int, records: Sequence[Record]) -> Applied:
    return store.apply(Chunk("results", partition, first, records))


def dump(path: Path) -> list[str]:
    with sqlite3.connect(path) as db:
        return list(db.iterdump())


def rows_of(path: Path) -> dict[str, list[Any]]:
    """The rows of all tables, but of the blocks of answers what the views make of them."""
    tables = (
        "log", "projection_offset", "result_key", "duplicate", "unreadable", "result_json", "result"
    )  # fmt: skip
    with sqlite3.connect(path) as db:
        found = {table: db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
                 for table in tables}  # fmt: skip
    without_block = {name: [row[:-1] for row in found[name]] for name in ("result", "result_json")}
    return {**found, **without_block}
