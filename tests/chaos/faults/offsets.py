"""The faults of offsets: a group's are set back, and the log deletes what was not read."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from infra import config
from infra.config import Settings
from infra.topics import RESULTS, TASKS, WORKER_GROUP
from streams.projection.reader import Reader
from tests.chaos.checks.logs import LogReader, place_of
from tests.chaos.faults.context import Context, Effect, eventually
from tests.chaos.faults.delivery import BACK_SECONDS

REQUEST_SECONDS = 10.0
EMPTY_SECONDS = 30.0  # within which a group forgets its members


async def reset_group(context: Context) -> Effect:
    """SIGTERM all workers, set their group back, and restart them; they answer tasks twice.

    A broker sets only the offsets of a group without members, so they are stopped, not killed.
    """
    supervisor, progress = context.supervisor, context.wire.progress
    workers = [member for member in supervisor.members.values() if member.kind == "worker"]
    stopped = all(await asyncio.gather(*map(supervisor.remove, workers)))
    before = dict(progress.committed)
    share = context.rng.choice((0.0, context.rng.uniform(0.5, 0.95)))  # 0: from the beginning
    back = {partition: int(share * offset) for partition, offset in before.items()}
    settings = config.load(supervisor.pipeline.env)
    accepted = await asyncio.to_thread(_set_back, settings, back)
    progress.committed |= back if accepted else {}
    answered = {event.id for event in context.answers_since(0)}
    start = time.monotonic_ns()
    for member in workers:
        supervisor.add(member.kind, member.number)
    repeated = await eventually(
        lambda: any(event.id in answered for event in context.answers_since(start)), BACK_SECONDS
    )
    caught_up = await eventually(
        lambda: all(progress.committed.get(p, 0) >= end for p, end in before.items()), BACK_SECONDS
    )
    complete = await eventually(lambda: supervisor.complete)
    span = {p: (back[p], end) for p, end in before.items()}
    return Effect(stopped and accepted and repeated and caught_up and complete, span=span)


def _set_back(settings: Settings, offsets: Mapping[int, int]) -> bool:
    """Set the group's offsets, as soon as it has no members; False if it keeps some."""
    client = AdminClient({"bootstrap.servers": settings.bootstrap, "log_level": 0})
    parts = [TopicPartition(TASKS, partition, offset) for partition, offset in offsets.items()]
    deadline = time.monotonic() + EMPTY_SECONDS
    while time.monotonic() < deadline:
        wanted = [ConsumerGroupTopicPartitions(WORKER_GROUP, parts)]
        [future] = client.alter_consumer_group_offsets(wanted).values()
        with contextlib.suppress(KafkaException):  # it still has members
            done = future.result(REQUEST_SECONDS)
            if all(part.error is None for part in done.topic_partitions):
                return True
        time.sleep(0.5)
    return False


async def expire_results(context: Context) -> Effect:
    """kill -9 the sinks, delete the results that they have not read, and restart them."""
    supervisor = context.supervisor
    settings = config.load(supervisor.pipeline.env)
    killed = await supervisor.kill_all("sink")
    stored = _stored(settings)
    await asyncio.sleep(context.rng.uniform(2.0, 4.0))
    records = await asyncio.to_thread(_delete_results, settings)
    span = {}
    for record in records:
        partition, offset = place_of(record)
        if (first := stored.get(partition, offset + 1)) <= offset:
            span[partition] = first, offset + 1
            context.state.unstored.add(record.key().decode())
    context.state.deleted += records
    for member in killed:
        supervisor.add(member.kind, member.number)
    noticed = await eventually(lambda: span.keys() <= _noticed(context, span))
    complete = await eventually(lambda: supervisor.complete)
    return Effect(bool(span) and noticed and complete, span=span)


def _stored(settings: Settings) -> dict[int, int]:
    """The next offset of each partition in the database."""
    with Reader(settings.database) as reader:
        return {partition: offset for (_, partition), offset in reader.positions().items()}


def _delete_results(settings: Settings) -> Sequence[Any]:
    """Delete all results that the log has; returns them, sorted by place. Raises KafkaException."""
    with contextlib.closing(LogReader(settings)) as reader:
        reader.read_to_end()
        records = sorted(reader.records[RESULTS], key=place_of)
    ends = {record.partition(): record.offset() + 1 for record in records}
    client = AdminClient({"bootstrap.servers": settings.bootstrap, "log_level": 0})
    before = [TopicPartition(RESULTS, partition, end) for partition, end in ends.items()]
    for future in client.delete_records(before).values():
        future.result(REQUEST_SECONDS)
    return records


def _noticed(context: Context, span: Mapping[int, tuple[int, int]]) -> set[int]:
    """The partitions whose deleted offsets the active sink has logged."""
    output = "".join(member.process.output for member in context.supervisor.of("sink"))
    return {
        partition
        for partition, (first, end) in span.items()
        if f"{RESULTS}[{partition}]: the broker deleted the offsets {first} to {end - 1} " in output
    }
