"""A worker and a sink with a fault built in, to see that the checker finds it."""

import asyncio
from collections.abc import Sequence
from typing import Any

from infra import config
from streams import sink as sinks
from streams import worker as workers
from streams.sink import Projection
from streams.store import Applied, Slice, Store
from streams.worker import Inference

LATE_SECONDS = 1.5  # longer than the interval of commits
FORGOTTEN = 5  # every so many-th transaction keeps one record of each slice


class HastyInference(Inference):
    """Acknowledges a chunk before its answers are published: a kill between loses them."""

    async def handle(self, event: Any, producer: Any) -> None:
        event.ack()
        late = asyncio.create_task(self._handle_late(event, producer))
        self._finishing.add(late)
        late.add_done_callback(self._finishing.discard)

    async def _handle_late(self, event: Any, producer: Any) -> None:
        await asyncio.sleep(LATE_SECONDS)
        await super().handle(event, producer)


class ForgetfulStore(Store):
    """Commits an offset without its row, now and then."""

    _transactions = 0

    def apply_all(self, slices: Sequence[Slice]) -> Applied:
        self._transactions += 1
        if self._transactions % FORGOTTEN == 0:
            slices = [s._replace(records=s.records[-1:]) for s in slices]
        return super().apply_all(slices)


class ForgetfulProjection(Projection):
    """A sink with a forgetful store."""

    async def open(self, cluster: str) -> None:
        await super().open(cluster)
        self._store.close()
        self._store = ForgetfulStore(self._settings.database, cluster)


workers.Inference = HastyInference  # type: ignore[misc]
sinks.Projection = ForgetfulProjection  # type: ignore[misc]
hasty_worker = workers.create_app(config.load_or_exit())
forgetful_sink = sinks.create_app(config.load_or_exit())
