"""Read one record of a topic by its place, outside any consumer group."""

from typing import NamedTuple

from aiokafka import TopicPartition

from infra.broker import connection
from infra.broker.access import Needs
from infra.broker.admin import prepare
from infra.broker.batches import UndecodableBatch
from infra.config import Settings

FETCH_MS = 3000


class Record(NamedTuple):
    """A record; its time is the broker's, in milliseconds since the epoch."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int


async def task_record(settings: Settings, partition: int, offset: int) -> Record | None:
    """The record of `tasks` at a place; None if the log does not have it, or not any more.

    Raises BrokerUnavailable, AccessRefused, KafkaError or TimeoutError.
    """
    needs = Needs(read=("tasks",))
    await prepare(settings, 1.0, needs)
    consumer = connection.new_consumer(settings)
    async with connection.connected(consumer, settings, needs):
        tp = TopicPartition(settings.names.tasks, partition)
        consumer.assign([tp])
        if not (await consumer.beginning_offsets([tp]))[tp] <= offset:
            return None
        consumer.seek(tp, offset)
        fetched = await consumer.getmany(tp, timeout_ms=FETCH_MS, max_records=1)
    for found in fetched.get(tp, []):
        if found.offset == offset and not isinstance(found, UndecodableBatch):
            return Record(found.key, found.value, found.timestamp)
    return None
