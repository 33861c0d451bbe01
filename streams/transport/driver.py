"""The transport of our applications: which consumer, which producer, and where to resume."""

from collections.abc import Callable, Mapping
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.errors import LogReplaced
from streams.transport.consumer import Consumer
from streams.transport.producer import Producer


class ProjectingConsumer(Consumer):
    """Resumes from the offsets that a projection has stored, not from the group's.

    So a database that was restored, or deleted, is repaired by reading the log again.
    """

    def on_log_replaced(self, tp: TP, expected: int) -> None:
        """End: rows of two logs under one name cannot be told apart."""
        raise LogReplaced(
            f"{tp.topic}[{tp.partition}] ends before offset {expected}, which the database has "
            "read: the topic was made again; move the database away, the sink makes it anew"
        )

    async def seek_to_committed(self) -> Mapping[TP, int]:
        offsets = {tp: await self.resume_offset(tp) for tp in self.assignment()}
        for tp, offset in offsets.items():
            await self._seek(tp, offset)
        return offsets

    async def resume_offset(self, tp: TP) -> int:
        stored = self.transport.stored_offsets().get(tp.partition)
        if stored is not None:
            return int(stored)
        return int((await self._thread.earliest_offsets(tp))[tp])


class Transport(driver.Transport):  # type: ignore[misc]
    """Wires consumer and producer. Set as `app.transport`; Faust ignores `producer_transport`.

    With `stored_offsets` (partition -> next offset) the consumer resumes from those.
    """

    Producer = Producer

    def __init__(
        self,
        app: Any,
        *,
        fetch_wait_ms: int,
        idempotence: bool,
        stored_offsets: Callable[[], Mapping[int, int]] | None = None,
    ) -> None:
        self.fetch_wait_ms = fetch_wait_ms
        self.idempotence = idempotence
        self.hole_seconds = 0.0  # that a hole in a log must last to be one
        self.stored_offsets = stored_offsets
        self.Consumer = Consumer if stored_offsets is None else ProjectingConsumer
        super().__init__(app.conf.broker_consumer, app)
