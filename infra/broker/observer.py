"""What a broker knows of a pipeline: the ends of its logs, its groups' offsets and members.

It asks the broker and reads no record, so the load does not matter.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError, for_code

from infra.broker import admin, connection
from infra.broker.access import CLIENT
from infra.config import Settings
from infra.topics import Topic

MEMBER_ID_SUFFIX = 37  # a dash and a UUID, which the broker adds to a client's id


class Member(NamedTuple):
    """A member of a group. `partitions` is None if the broker does not say which it has."""

    name: str
    partitions: Sequence[int] | None


class Observer:
    """Connected to the broker from `open` to `close`.

    The methods raise KafkaError, OSError or TimeoutError; then it has to be opened again.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._coordinators: dict[str, int] = {}

    async def open(self, wait: float) -> Self:
        """Connect within `wait` seconds.

        Raises BrokerUnavailable, AccessRefused or TopicMismatch too.
        """
        await admin.prepare(self._settings, wait, CLIENT)
        self._coordinators.clear()
        self._consumer = connection.new_consumer(self._settings)
        await connection.start(self._consumer)
        self._admin = connection.new_admin(self._settings)
        await self._admin.start()
        return self

    async def close(self) -> None:
        """Disconnect."""
        consumer, self._consumer = self._consumer, None
        await connection.stop(consumer)
        client, self._admin = self._admin, None
        if client is not None:
            with suppress(KafkaError, OSError):
                await client.close()

    async def ends(self, topics: Sequence[Topic]) -> dict[str, dict[int, int]]:
        """The end of each partition, by topic.

        The embedded broker's answer is short by up to a batch.
        """
        assert self._consumer is not None
        wanted = [TopicPartition(t.name, p) for t in topics for p in range(t.partitions)]
        found = await self._consumer.end_offsets(wanted)
        ends: dict[str, dict[int, int]] = {topic.name: {} for topic in topics}
        for tp, offset in found.items():
            ends[tp.topic][tp.partition] = offset
        return ends

    async def committed(self, group: str, topic: Topic) -> Mapping[int, int]:
        """What a group has committed of a topic's partitions."""
        assert self._admin is not None
        wanted = [TopicPartition(topic.name, p) for p in range(topic.partitions)]
        coordinator = await self._coordinator(group)
        found = await self._admin.list_consumer_group_offsets(group, coordinator, wanted)
        return {tp.partition: one.offset for tp, one in found.items() if one.offset >= 0}

    async def members(self, group: str, topic: str) -> list[Member]:
        """The members of a group, and which partitions of a topic each has."""
        assert self._admin is not None
        coordinator = await self._coordinator(group)
        [response] = await self._admin.describe_consumer_groups([group], coordinator)
        [found] = response.to_object()["groups"]
        if found["error_code"]:
            raise for_code(found["error_code"])(f"group {group}")
        return [_member(each, topic) for each in found["members"]]

    async def _coordinator(self, group: str) -> int:
        assert self._admin is not None
        if group not in self._coordinators:
            self._coordinators[group] = await self._admin.find_coordinator(group)
        return self._coordinators[group]


def _member(found: Mapping[str, Any], topic: str) -> Member:
    name = found["client_id"] or found["member_id"][:-MEMBER_ID_SUFFIX]
    raw = found["member_assignment"]
    if not raw:
        return Member(name, None)
    assignment = ConsumerProtocolMemberAssignment.decode(raw)
    return Member(name, sorted(tp.partition for tp in assignment.partitions() if tp.topic == topic))
