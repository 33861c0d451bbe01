"""Find results by their label, error, model, worker and time, the newest first."""

import sqlite3
import time
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from streams.projection.typed_rows import count_left

SEARCH_SECONDS = 2.0
STEPS = 20_000  # of SQLite's machine between two looks at the clock


class SearchTooLong(Exception):
    """The search took more than SEARCH_SECONDS."""


class Wanted(NamedTuple):
    """What the results must have; None: anything. Times are in seconds since the epoch.

    `label`: the answer to the task's first row, as text. `model`: `name` or `name@version`.
    """

    label: str | None = None
    outcome: Literal["ok", "error"] | None = None
    error: str | None = None
    model: str | None = None
    worker: str | None = None
    since: float | None = None
    until: float | None = None

    @property
    def is_anything(self) -> bool:
        return all(each is None for each in self)


class Found(NamedTuple):
    """Rows of the view `result`, and the number of stored results that it does not have yet."""

    rows: list[dict[str, Any]]
    left: int


def search(db: sqlite3.Connection, wanted: Wanted, limit: int) -> Found:
    """The newest results that are wanted; raises SearchTooLong."""
    conditions = list(_conditions(wanted))
    where = " AND ".join(condition for condition, _ in conditions) or "1"
    query = (
        f"SELECT * FROM result WHERE {where} ORDER BY answered_at_ms DESC, position DESC LIMIT ?"  # noqa: S608
    )
    deadline = time.monotonic() + SEARCH_SECONDS
    db.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
    try:
        cursor = db.execute(query, [*(value for _, value in conditions), limit])
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
    except sqlite3.OperationalError as e:
        if time.monotonic() > deadline:
            raise SearchTooLong from e
        raise
    finally:
        db.set_progress_handler(None, 0)
    return Found(rows, count_left(db))


def _conditions(wanted: Wanted) -> Iterator[tuple[str, Any]]:
    equal = {
        "label": wanted.label,
        "status": wanted.outcome,
        "error_code": wanted.error,
        "worker": wanted.worker,
    }
    yield from ((f"{column} = ?", value) for column, value in equal.items() if value is not None)
    if wanted.model is not None and "@" in wanted.model:
        yield "model = ?", wanted.model
    elif wanted.model is not None:  # every version; "A" is the character after "@"
        yield "model >= ?", f"{wanted.model}@"
        yield "model < ?", f"{wanted.model}A"
    if wanted.since is not None:
        yield "answered_at_ms >= ?", round(wanted.since * 1000)
    if wanted.until is not None:
        yield "answered_at_ms <= ?", round(wanted.until * 1000)
