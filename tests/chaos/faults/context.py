"""The parts of a run that faults act on, and how a fault checks its effect."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tests.chaos.delivery.backlog import Backlog
from tests.chaos.delivery.wire import Wire
from tests.chaos.faults.proxy import Isolation
from tests.chaos.history import Event
from tests.chaos.load.kafka import KafkaLoad
from tests.chaos.load.state import LoadState
from tests.chaos.supervisor import Supervisor

EFFECT_SECONDS = 30.0
SETTLE_SECONDS = 1.0  # messages in flight arrive within this time


class Effect(NamedTuple):
    """Whether the effect of a fault was seen, and the processes that it hit.

    `span`: the offsets that it concerns, see `history.Event`.
    """

    seen: bool
    pids: Sequence[int] = ()
    span: Mapping[int, tuple[int, int]] = {}


class Context(NamedTuple):
    """The parts of a run that a fault may act on."""

    supervisor: Supervisor
    load: KafkaLoad
    rng: random.Random
    backlog: Backlog
    wire: Wire
    isolation: Isolation
    state: LoadState

    def answers_since(self, t: int) -> Iterator[Event]:
        """The results that c4 has read after a moment, the latest first."""
        return (e for e in self.supervisor.record.since(t) if e.proc == "c4")


Fault = Callable[[Context], Awaitable[Effect]]


async def eventually(condition: Callable[[], object], seconds: float = EFFECT_SECONDS) -> bool:
    """Poll until `condition()` is true; False if it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.1)
    return True
