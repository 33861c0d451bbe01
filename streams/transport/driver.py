"""The transport of our Faust applications: its consumer, its producer, and where it resumes."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from typing_extensions import override

from infra.broker.log_id import LogIds
from streams.records import OffsetPolicy
from streams.transport.attempts import AttemptSettings
from streams.transport.consumer import Consumer
from streams.transport.producer import Producer
from streams.transport.standalone import StandaloneThread


class Projection(Protocol):
    """What stores the records of one log at a time, and its offsets with them."""

    def follow(self, log: str) -> str:
        """Store the records of this log from now on; returns the name that its chunks must have."""

    def follow_next(self, log: str) -> str:
        """As `follow`, for another log that has the same id."""

    def next_offsets(self) -> Mapping[int, int]:
        """Of each partition with stored records of the followed log, the offset to read next."""


class ProjectingConsumer(Consumer):
    """Resumes from the offsets that a projection has stored, not from the group's.

    So reading the log again repairs a database that was restored or deleted.
    """

    _name = ""  # of the log, as the projection has it

    @property
    @override
    def log_name(self) -> str:
        return self._name

    @override
    async def resume_offsets(self, tps: Sequence[TP]) -> Mapping[TP, int]:
        """The stored offsets, or the log's start."""
        stored = await asyncio.to_thread(self.transport.projection.next_offsets)
        new = [tp for tp in tps if tp.partition not in stored]
        starts = await self._thread.earliest_offsets(*new) if new else {}
        return {tp: stored[tp.partition] if tp.partition in stored else starts[tp] for tp in tps}

    @override
    async def _enter(self, log: str) -> bool:
        if log != self._log:
            self._name = await asyncio.to_thread(self.transport.projection.follow, log)
        return await super()._enter(log)

    @override
    async def _start_over(self, tp: TP) -> None:
        """Read all partitions from their beginnings: rows of two logs must not look alike."""
        follow = self.transport.projection.follow_next
        self._name = await asyncio.to_thread(follow, self._log)
        self._forget_all()
        await self._seek_to_start(self.assignment())


class StandaloneConsumer(ProjectingConsumer):
    """The same without a consumer group: it reads all partitions and commits nothing."""

    @override
    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Only note the offsets: the projection has stored them."""
        for tp, offset in offsets.items():
            if (mark := self._marks.get(tp)) is not None:
                mark.base = offset
        return True

    @override
    def foreign_partitions(self, topic: str) -> list[int] | None:
        return []

    @override
    def _new_consumer_thread(self) -> Any:
        return StandaloneThread(self, loop=self.loop, beacon=self.beacon)


class Transport(driver.Transport):  # type: ignore[misc]
    """Wires consumer and producer. Set as `app.transport`; Faust ignores `producer_transport`.

    With a `projection` the consumer resumes from the offsets that it has stored; `standalone`: and
    reads all partitions, in no group. `offset_policy` must learn the broker's cluster id before the
    start.
    """

    Producer = Producer

    def __init__(
        self,
        app: Any,
        *,
        idempotence: bool,
        logs: LogIds,
        projection: Projection | None = None,
        standalone: bool = False,
    ) -> None:
        self.idempotence = idempotence
        self.logs = logs
        self.projection = projection
        self.attempt_settings: AttemptSettings | None = None  # None: attempts are not counted
        self.offset_policy = OffsetPolicy()
        projecting = StandaloneConsumer if standalone else ProjectingConsumer
        self.Consumer = Consumer if projection is None else projecting
        super().__init__(app.conf.broker_consumer, app)
