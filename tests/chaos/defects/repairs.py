"""`petal` with a defect of its maintenance: `python -m tests.chaos.defects.repairs NAME …`.

Each defect is a way in which a repair loses, repeats or overlooks something.
"""

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from cli.__main__ import main
from infra.config import Settings
from streams.maintenance import rebuild, reconcile, scan, verify
from streams.maintenance.scan import Log


def row_overlooked() -> None:
    """`petal verify` passes over a missing row."""
    compare = verify._compare

    def blind(*args: Any) -> tuple[list[str], list[str], list[str]]:
        return [], *compare(*args)[1:]

    verify._compare = blind  # type: ignore[assignment]


def answered_by_key() -> None:
    """`petal reconcile` takes a record that cannot be read for an answer, and misses its task."""

    def answered(records: Sequence[Any]) -> Iterator[str]:
        return (record.key.decode() for record in records)

    reconcile._answered = answered


def letters_republished() -> None:
    """`petal reconcile` publishes again what is a dead letter already."""
    reconcile.source_of = lambda _: None  # type: ignore[attr-defined, assignment]


def rebuilt_from_committed() -> None:
    """`petal rebuild` begins where the sink is, not at the log's beginning."""

    @asynccontextmanager
    async def open_late(settings: Settings, topic: str) -> AsyncIterator[Log]:
        async with scan.open_log(settings, topic) as log:
            log._next.update(log.ends)
            yield log

    rebuild.open_log = open_late  # type: ignore[attr-defined]


def replayed_elsewhere() -> None:
    """`petal dead-letters replay` writes a record to another partition than its own."""
    publish = reconcile.publish_again

    async def moved(settings: Settings, records: Any) -> int:
        return await publish(
            settings, [((p + 1) % settings.partitions, *record) for p, *record in records]
        )

    reconcile.publish_again = moved


DEFECTS: dict[str, Callable[[], None]] = {
    one.__name__.replace("_", "-"): one
    for one in (
        row_overlooked, answered_by_key, letters_republished, rebuilt_from_committed,
        replayed_elsewhere,
    )
}  # fmt: skip

if __name__ == "__main__":
    DEFECTS[sys.argv.pop(1)]()
    main()
