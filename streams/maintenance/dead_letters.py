"""The records of `tasks` that could not be read."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from infra.config import Settings
from infra.topics import DEAD_LETTERS
from streams.maintenance.scan import open_log


class Letter(NamedTuple):
    """A dead letter. `offset` is its own, in `dead-letters`; `source` is its place in `tasks`."""

    offset: int
    reason: str
    source: tuple[int, int] | None
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


async def dead_letters(settings: Settings) -> Sequence[Letter]:
    """All dead letters, the oldest first."""
    async with open_log(settings, DEAD_LETTERS) as log:
        return [
            Letter(
                r.offset,
                (dict(r.headers).get("petal-reason") or b"").decode("utf-8", "replace"),
                source_of(r),
                r.timestamp,
                r.key,
                r.value,
            )
            async for part in log.chunks()
            for r in part.records
        ]


def source_of(record: Any) -> tuple[int, int] | None:
    """Partition and offset in `tasks` of a dead letter, or None if its headers have none."""
    headers = dict(record.headers)
    try:
        return int(headers["petal-partition"]), int(headers["petal-offset"])
    except (KeyError, TypeError, ValueError):
        return None
