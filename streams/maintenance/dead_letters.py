"""The records of `tasks` that could not be read."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from infra.broker.batches import UNDECODABLE, UndecodableBatch
from infra.config import Settings
from infra.topics import DEAD_LETTERS
from streams.maintenance.scan import open_log


class Letter(NamedTuple):
    """A dead letter. `offset` is its own, in `dead-letters`; `source` is its place in `tasks`.

    That of a batch of records which could not be decoded has the batch's `last` offset in `tasks`,
    the `detail` of its reason, and the beginning of the batch's bytes as its value.
    """

    offset: int
    reason: str
    source: tuple[int, int] | None
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    last: int | None = None
    detail: str | None = None


async def dead_letters(settings: Settings) -> Sequence[Letter]:
    """All dead letters, the oldest first."""
    async with open_log(settings, DEAD_LETTERS) as log:
        return [_letter(r) async for part in log.chunks() for r in part.records]


def _letter(record: Any) -> Letter:
    if type(record) is UndecodableBatch:  # of `dead-letters` itself
        return Letter(
            record.offset, UNDECODABLE, None, record.timestamp, None, record.head,
            detail=record.reason,
        )  # fmt: skip
    texts = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
    last = texts.get("petal-last-offset", "")
    return Letter(
        record.offset,
        texts.get("petal-reason", ""),
        source_of(record),
        record.timestamp,
        record.key,
        record.value,
        int(last) if last.isdecimal() else None,
        texts.get("petal-detail"),
    )


def source_of(record: Any) -> tuple[int, int] | None:
    """Partition and offset in `tasks` of a dead letter, or None if its headers have none."""
    headers = dict(record.headers)
    try:
        return int(headers["petal-partition"]), int(headers["petal-offset"])
    except (KeyError, TypeError, ValueError):
        return None
