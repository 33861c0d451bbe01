"""The final state of the projection, and the differences after a replay and a rebuild.

Replay: the whole log, applied to a copy with the product's own store, changes nothing. Rebuild: a
new database built from the log alone holds the same rows.
"""

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from infra.topics import RESULTS
from streams.errors import StoreError
from streams.projection.reader import Reader
from streams.projection.store import Store
from streams.records import Chunk
from tests.chaos.checks.observed import Projected, Row

MAX_CHUNK_RECORDS = 1000


class Stored(NamedTuple):
    """A record for the store; `timestamp` in milliseconds since the epoch."""

    offset: int
    timestamp: int
    value: bytes | None


def _rows(database: Path) -> Iterator[Row]:
    with Reader(database) as reader:
        for row in reader.rows():
            y = row["y"] and msgspec.json.decode(row["y"])
            yield Row(row["task_id"], (row["partition"], row["offset"]), y)


def offsets(database: Path, log: str) -> Mapping[int, int]:
    """The next offset of each partition; empty while there is no readable database."""
    try:
        with Reader(database) as reader:
            number = reader.log_id(log)
            return {} if number is None else reader.next_offsets(number)
    except (StoreError, sqlite3.Error):
        return {}


def digests(database: Path) -> dict[str, str]:
    """A digest of each table's rows, independent of their order in the file.

    The blocks of answers are digested as rows of the view, independent of transactions. A log does
    not say when its records were deleted, so a rebuild has no such offsets.
    """
    with contextlib.closing(sqlite3.connect(database.absolute().as_uri(), uri=True)) as db:
        db.row_factory = sqlite3.Row
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        names = {table["name"] for table in tables}
        return {
            name: _digest(db.execute(f'SELECT * FROM "{name}"'))
            for name in sorted(names - {"result_block", "deleted_unread"} | {"result_json"})
        }


def _digest(rows: Iterator[sqlite3.Row]) -> str:
    texts = [repr([row[c] for c in row.keys() if c != "block"]) for row in rows]  # noqa: SIM118
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()


def _copy(database: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    with (
        contextlib.closing(sqlite3.connect(database)) as source,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)


def _chunks(records: Sequence[Any]) -> Iterator[Chunk]:
    """All records, sorted by partition and offset, as chunks of one partition."""
    for partition, of_partition in groupby(records, key=lambda r: r.partition()):
        stored = [Stored(r.offset(), r.timestamp()[1], r.value()) for r in of_partition]
        first = 0
        for n in range(0, len(stored), MAX_CHUNK_RECORDS):
            part = stored[n : n + MAX_CHUNK_RECORDS]
            yield Chunk(RESULTS, int(partition), first, part)
            first = part[-1].offset + 1


def _apply(database: Path, log: str, records: Sequence[Any], before: Mapping[str, str]) -> str:
    """Apply the log to a database; returns the differences from `before`, empty if none."""
    try:
        with contextlib.closing(Store(database, log)) as store:
            for chunk in _chunks(records):
                store.apply(chunk)
            while store.add_rows():
                pass
    except (sqlite3.Error, StoreError) as e:
        return f"the log cannot be applied: {e}"
    return _difference(before, digests(database))


def _add_rows(database: Path, log: str) -> None:
    with contextlib.closing(Store(database, log)) as store:
        while store.add_rows():
            pass


def _difference(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    changed = sorted(t for t in before.keys() | after.keys() if before.get(t) != after.get(t))
    return f"different rows in {', '.join(changed)}" if changed else ""


def _integrity(database: Path) -> str:
    """The findings of SQLite's own checks; "ok" if there are none."""
    with contextlib.closing(sqlite3.connect(database)) as db:
        (finding,) = db.execute("PRAGMA integrity_check").fetchone()
        try:
            orphans = db.execute("PRAGMA foreign_key_check").fetchall()
        except sqlite3.OperationalError as e:  # a foreign key that refers to no key
            return str(e)
    return f"{len(orphans)} rows refer to a missing row" if orphans else str(finding)


def project(database: Path, log: str, records: Sequence[Any], readable: Sequence[Any]) -> Projected:
    """Read the database; apply `records`, all of `results`, to a copy.

    A new one gets those that a sink could read.
    """
    replayed, rebuilt = (database.with_name(f"{name}.sqlite") for name in ("replay", "rebuild"))
    _copy(database, replayed)
    _add_rows(replayed, log)  # those that a sink which was stopped had left
    before = digests(replayed)
    for path in rebuilt.parent.glob(f"{rebuilt.name}*"):
        path.unlink()
    with Reader(database) as reader:
        audit = reader.audit()
    return Projected(
        list(_rows(database)),
        _integrity(database),
        audit.consistent,
        audit.conflicts,
        offsets(database, log),
        _apply(replayed, log, records, before),
        _apply(rebuilt, log, readable, before),
    )
