"""Find tasks that were never answered, and publish them again."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from infra.broker import connection
from infra.broker.access import Needs
from infra.broker.admin import prepare
from infra.config import Settings
from infra.topics import MAX_TASK_BYTES, OVERHEAD_BYTES
from streams.codec import decode_result, decode_results, is_result
from streams.maintenance.dead_letters import source_of
from streams.maintenance.scan import open_log


class Unanswered(NamedTuple):
    """A task without a readable result or a dead letter, as its record in `tasks` has it."""

    partition: int
    key: bytes | None
    value: bytes | None
    task_id: str


class Found(NamedTuple):
    """Tasks without an end, and the batches of `tasks` and `results` that cannot be decoded.

    The tasks in such a batch are not among the others. A task whose result is in one is.
    """

    tasks: list[Unanswered]
    undecodable: list[str]  # their places, such as tasks[0]:5-9


async def unanswered(settings: Settings, older_than: float) -> Found:
    """Tasks whose records are older than `older_than` seconds and have no result or dead letter."""
    before_ms = (time.time() - older_than) * 1000
    async with open_log(settings, settings.names.results) as log:
        answered = {task_id async for part in log.chunks() for task_id in _answered(part.records)}
        undecodable = log.undecodable
    async with open_log(settings, settings.names.dead_letters) as log:
        dead = {source_of(r) async for part in log.chunks() for r in part.records}
    found = []
    async with open_log(settings, settings.names.tasks) as log:
        async for part in log.chunks():
            for r in part.decoded()[0].records:
                task_id = _task_id(r)
                if (
                    r.timestamp < before_ms
                    and (part.partition, r.offset) not in dead
                    and task_id not in answered
                ):
                    found.append(Unanswered(part.partition, r.key, r.value, task_id))
        undecodable += log.undecodable
    return Found(found, undecodable)


def _answered(records: Sequence[Any]) -> Iterator[str]:
    """The ids of tasks that have a result which can be read."""
    values = [record.value or b"" for record in records]
    if (results := decode_results(values)) is None:
        results = [decode_result(value) for value in values if is_result(value)]
    return (result.id for result in results)


class _Identified(msgspec.Struct):
    id: str


def _task_id(record: Any) -> str:
    """The id that a result would carry: that of the value, or the key if it has none."""
    try:
        return msgspec.json.decode(record.value or b"", type=_Identified).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return (record.key or b"").decode("utf-8", "replace")


async def publish_again(
    settings: Settings, records: Iterable[tuple[int, bytes | None, bytes | None]]
) -> int:
    """Write (partition, key, value) to `tasks`, bytes unchanged; returns how many.

    The broker acknowledges each. Safe to repeat: everything is keyed by task id.
    """
    count = 0
    listed = list(records)
    needs = Needs(write=("tasks",))
    await prepare(settings, needs=needs)
    longest = max((len(value or b"") + len(key or b"") for _, key, value in listed), default=0)
    producer = connection.new_producer(
        settings,
        longest + OVERHEAD_BYTES,
        connection.JOB_REQUEST_SECONDS,
        # The topic took such a record only because its producer had compressed it.
        compression="gzip" if longest > MAX_TASK_BYTES else None,
    )
    async with connection.connected(producer, settings, needs):
        for partition, key, value in listed:
            await producer.send_and_wait(settings.names.tasks, value, key=key, partition=partition)
            count += 1
    return count
