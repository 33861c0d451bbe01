"""The projection as it was left, and what applying the whole log again makes of it.

Replay: onto a copy, through the product's own store, nothing may change. Rebuild: a new
database made from the log alone must hold the same.
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
from tests.chaos.checks.history import Projected, Row

RECORDS_AT_ONCE = 1000


class Stored(NamedTuple):
    """A record as the store wants it; `timestamp` in milliseconds since the epoch."""

    offset: int
    timestamp: int
    value: bytes | None


def _rows(database: Path) -> Iterator[Row]:
    with Reader(database) as reader:
        for row in reader.rows():
            y = row["y"] and msgspec.json.decode(row["y"])
            yield Row(row["task_id"], (row["partition"], row["offset"]), y)


def offsets(database: Path, cluster: str) -> Mapping[int, int]:
    """The next offset of each partition; none while there is no database that can be read."""
    try:
        with Reader(database) as reader:
            log = reader.log_id(cluster)
            return {} if log is None else reader.next_offsets(log)
    except (StoreError, sqlite3.Error):
        return {}


def digests(database: Path) -> dict[str, str]:
    """Of each table a digest of its rows, whatever their order in the file; of the blocks of
    answers that of their rows in the view, whatever the transactions that made them."""
    with contextlib.closing(sqlite3.connect(database.absolute().as_uri(), uri=True)) as db:
        db.row_factory = sqlite3.Row
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: _digest(db.execute(f'SELECT * FROM "{name}"'))
            for name in sorted({table["name"] for table in tables} - {"result_block"} | {"result"})
        }


def _digest(rows: Iterator[sqlite3.Row]) -> str:
    told = [repr([row[c] for c in row.keys() if c != "block"]) for row in rows]  # noqa: SIM118
    return hashlib.sha256("\n".join(sorted(told)).encode()).hexdigest()


def _copy(database: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    with (
        contextlib.closing(sqlite3.connect(database)) as source,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)


def _slices(records: Sequence[Any]) -> Iterator[Chunk]:
    """All records, by partition and offset, in parts from each partition's beginning."""
    for partition, of_partition in groupby(records, key=lambda r: r.partition()):
        stored = [Stored(r.offset(), r.timestamp()[1], r.value()) for r in of_partition]
        first = 0
        for n in range(0, len(stored), RECORDS_AT_ONCE):
            part = stored[n : n + RECORDS_AT_ONCE]
            yield Chunk(RESULTS, int(partition), first, part)
            first = part[-1].offset + 1


def _apply(database: Path, cluster: str, records: Sequence[Any], before: Mapping[str, str]) -> str:
    """Apply the log to a database; says what is otherwise than `before`, if anything."""
    try:
        with contextlib.closing(Store(database, cluster)) as store:
            for part in _slices(records):
                store.apply(part)
    except (sqlite3.Error, StoreError) as e:
        return f"the log cannot be applied: {e}"
    return _difference(before, digests(database))


def _difference(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    changed = sorted(t for t in before.keys() | after.keys() if before.get(t) != after.get(t))
    return f"other rows in {', '.join(changed)}" if changed else ""


def _integrity(database: Path) -> str:
    """What SQLite's own checks say; "ok" if all is well."""
    with contextlib.closing(sqlite3.connect(database)) as db:
        (said,) = db.execute("PRAGMA integrity_check").fetchone()
        try:
            orphans = db.execute("PRAGMA foreign_key_check").fetchall()
        except sqlite3.OperationalError as e:  # a key that is none
            return str(e)
    return f"{len(orphans)} rows refer to none" if orphans else str(said)


def project(database: Path, cluster: str, records: Sequence[Any]) -> Projected:
    """Read the database; apply `records`, all of `results`, to a copy and to a new one."""
    replayed, rebuilt = (database.with_name(f"{name}.sqlite") for name in ("replay", "rebuild"))
    _copy(database, replayed)
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
        offsets(database, cluster),
        _apply(replayed, cluster, records, before),
        _apply(rebuilt, cluster, records, before),
    )
