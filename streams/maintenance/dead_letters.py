"""The records of `tasks` that could not be read."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.broker import connection
from infra.broker.access import Needs
from infra.broker.admin import prepare
from infra.broker.batches import UNDECODABLE, UndecodableBatch
from infra.config import Settings
from infra.topics import DETAIL, FULL_BYTES, LAST_OFFSET, SHA256
from streams.maintenance.scan import open_log

FETCH_SECONDS = 5.0  # within which a broker gives a record that it has


class Letter(NamedTuple):
    """A dead letter. `offset` is its own, in `dead-letters`; `source` is its place in `tasks`.

    `sha256`: of the whole record, if `key` and `value` are only its head; `full_bytes`: the length
    of its value.
    That of a batch of records which could not be decoded has the batch's `last` offset in `tasks`,
    the `detail` of its reason, and the beginning of the batch's bytes as its value.
    """

    offset: int
    reason: str
    source: tuple[int, int] | None
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    full_bytes: int | None
    sha256: str | None
    last: int | None = None
    detail: str | None = None


async def dead_letters(settings: Settings, last: int | None = None) -> Sequence[Letter]:
    """All dead letters, or those among the last so many offsets; the oldest first."""
    async with open_log(settings, settings.names.dead_letters) as log:
        if last is not None:
            log.skip_to_last(last)
        return [_letter(r, dict(r.headers)) async for part in log.chunks() for r in part.records]


def _letter(record: Any, headers: dict[str, bytes | None]) -> Letter:
    if type(record) is UndecodableBatch:  # of `dead-letters` itself
        return Letter(
            record.offset, UNDECODABLE, None, record.timestamp, None, record.head,
            record.size, record.digest, detail=record.reason,
        )  # fmt: skip
    full = headers.get(FULL_BYTES) or b""
    last = headers.get(LAST_OFFSET) or b""
    return Letter(
        record.offset,
        _text(headers.get("petal-reason")),
        source_of(record),
        record.timestamp,
        record.key,
        record.value,
        int(full) if full.isdigit() else None,
        _text(headers.get(SHA256)) or None,
        int(last) if last.isdigit() else None,
        _text(headers.get(DETAIL)) or None,
    )


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


async def whole(settings: Settings, letters: Sequence[Letter]) -> list[Letter]:
    """The letters with their whole keys and values.

    Where a letter holds only the head of its record, these come from `tasks`. Letters are left out
    whose record is not there any more, or whose place has another record now.
    """
    needs = Needs(read=("tasks",))
    await prepare(settings, needs=needs)
    consumer = connection.new_consumer(settings, connection.JOB_REQUEST_SECONDS)
    async with connection.connected(consumer, settings, needs):
        found = [await _whole(consumer, settings.names.tasks, letter) for letter in letters]
    return [letter for letter in found if letter is not None]


async def _whole(consumer: AIOKafkaConsumer, topic: str, letter: Letter) -> Letter | None:
    if letter.sha256 is None:
        return letter
    if letter.source is None:
        return None
    partition, offset = letter.source
    tp = TopicPartition(topic, partition)
    consumer.assign([tp])
    if (await consumer.beginning_offsets([tp]))[tp] > offset:
        return None
    consumer.seek(tp, offset)
    fetched = await consumer.getmany(tp, timeout_ms=int(FETCH_SECONDS * 1000), max_records=1)
    for record in fetched.get(tp, []):
        bytes_ = (record.key or b"") + (record.value or b"")
        if record.offset == offset and hashlib.sha256(bytes_).hexdigest() == letter.sha256:
            return letter._replace(key=record.key, value=record.value)
    return None


def source_of(record: Any) -> tuple[int, int] | None:
    """Partition and offset in `tasks` of a dead letter, or None if its headers have none."""
    headers = dict(record.headers)
    try:
        return int(headers["petal-partition"]), int(headers["petal-offset"])
    except (KeyError, TypeError, ValueError):
        return None
