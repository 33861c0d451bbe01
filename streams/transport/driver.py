"""The transport of our Faust applications: its consumer, its producer, and where it resumes."""

from collections.abc import Callable, Mapping
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from typing_extensions import override

from streams.errors import LogReplaced
from streams.records import OffsetPolicy, warn_of_replaced
from streams.transport.attempts import AttemptSettings
from streams.transport.consumer import Consumer
from streams.transport.producer import Producer


def refuse_replaced(tp: TP, expected: int) -> None:
    """Raise LogReplaced: in a database, rows of two logs with one name look alike."""
    raise LogReplaced(
        f"{tp.topic}[{tp.partition}] ends before offset {expected}, which the database has read: "
        "the topic was recreated; move the database aside and the sink builds a new one"
    )


class ProjectingConsumer(Consumer):
    """Resumes from the offsets that a projection has stored, not from the group's.

    So reading the log again repairs a database that was restored or deleted.
    """

    @override
    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to the stored offsets; Faust would seek to those that the group committed."""
        offsets = {tp: await self.resume_offset(tp) for tp in self.assignment()}
        for tp, offset in offsets.items():
            await self._seek(tp, offset)
        return offsets

    @override
    async def resume_offset(self, tp: TP) -> int:
        """The stored offset, or the log's start."""
        stored = self.transport.stored_offsets().get(tp.partition)
        if stored is not None:
            return int(stored)
        return int((await self._thread.earliest_offsets(tp))[tp])


class Transport(driver.Transport):  # type: ignore[misc]
    """Wires consumer and producer. Set as `app.transport`; Faust ignores `producer_transport`.

    With `stored_offsets` (partition -> next offset) the consumer resumes from those, and refuses
    a log that was replaced. `offset_policy` must learn the broker's cluster id before the start.
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
        self.stored_offsets = stored_offsets
        self.attempt_settings: AttemptSettings | None = None  # None: attempts are not counted
        projects = stored_offsets is not None
        self.offset_policy = OffsetPolicy(refuse_replaced if projects else warn_of_replaced)
        self.Consumer = ProjectingConsumer if projects else Consumer
        super().__init__(app.conf.broker_consumer, app)
