"""Many rows by one statement.

Each statement gives up the interpreter's lock and takes it again, for which the sink's event
loop, busy with the next chunks, may make it wait: with `executemany` for each row.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Any

ROWS_AT_ONCE = 500  # SQLite takes 32,766 values at once


def insert(
    db: sqlite3.Connection, into: str, rows: Iterable[Sequence[Any]], ending: str = ""
) -> None:
    """`INSERT {into} VALUES {rows} {ending}`. What fails rolls the whole transaction back:
    with SQLite's default, OR ABORT, it would keep a journal of every page that it changes."""
    left = iter(rows)
    while some := list(islice(left, ROWS_AT_ONCE)):
        row = f"({','.join('?' * len(some[0]))})"
        values = ",".join([row] * len(some))
        statement = f"INSERT OR ROLLBACK {into} VALUES {values} {ending}"  # noqa: S608
        db.execute(statement, tuple(chain.from_iterable(some)))
