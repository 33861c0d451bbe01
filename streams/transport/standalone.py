"""A consumer thread without a consumer group: it assigns all partitions of its topics to itself.

It sends no JoinGroup and commits nothing, so it needs no permission for a group, and any number of
processes read the same records. The group's place is taken by what a projection has stored.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from aiokafka import TopicPartition
from faust.transport.consumer import ensure_TPset
from mode import Service
from typing_extensions import override

from streams.transport.thread import ConsumerThread

CHECK_SECONDS = 1.0  # from one look for partitions that were added to the next


class StandaloneThread(ConsumerThread):
    """Faust sees its assignments as rebalances of a group with one member."""

    @override
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._subscribed = asyncio.Event()
        self._topics: set[str] = set()
        self._generation = 0

    @override
    def _create_worker_consumer(self, transport: Any) -> Any:
        """Without a group, for which Faust has no setting."""
        consumer = super()._create_worker_consumer(transport)
        consumer._group_id = None
        return consumer

    @override
    async def subscribe(self, topics: Iterable[str]) -> None:
        """Only note the topics: Faust ends its own subscription before it takes an assignment."""
        self._topics = set(topics)
        self._subscribed.set()

    @Service.task
    async def _assign_all(self) -> None:
        """Assign the partitions, and again whenever there are others."""
        await self._subscribed.wait()
        await self._ensure_consumer()._client.set_topics(self._topics)
        while not self.should_stop:
            found = {TopicPartition(t, p) for t in self._topics for p in self.partitions_of(t)}
            if found and found != self.assignment():  # a topic that is deleted comes back
                await self._assign(found)
            await self.sleep(CHECK_SECONDS)

    async def _assign(self, partitions: set[TopicPartition]) -> None:
        self.app.on_rebalance_start()
        await self.on_partitions_revoked(self.assignment())
        self._ensure_consumer().assign(partitions)
        self._generation += 1
        self.app.consumer_generation_id = self._generation
        await self.on_partitions_assigned(ensure_TPset(partitions), self._generation)
