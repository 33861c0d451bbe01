"""What a fault may play with, and how its effect is seen."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

from tests.chaos.checks.history import Event
from tests.chaos.delivery.backlog import Backlog
from tests.chaos.delivery.wire import Wire
from tests.chaos.fleet import Fleet
from tests.chaos.load.kafka import Load

EFFECT_SECONDS = 30.0
SETTLE = 1.0  # seconds in which what was on its way arrives


class Effect(NamedTuple):
    """Whether a fault did what it should, and the processes that it hit."""

    seen: bool
    pids: Sequence[int] = ()


class Stage(NamedTuple):
    """What a fault may play with."""

    fleet: Fleet
    load: Load
    rng: random.Random
    backlog: Backlog
    wire: Wire

    def answers_since(self, t: int) -> Iterator[Event]:
        """What c4 has read from `results` after a moment, the latest first."""
        return (e for e in self.fleet.record.since(t) if e.proc == "c4")


Fault = Callable[[Stage], Awaitable[Effect]]


async def seen(true: Callable[[], object], seconds: float = EFFECT_SECONDS) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.1)
    return True
