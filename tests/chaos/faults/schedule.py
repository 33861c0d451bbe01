"""The order of the faults, and their injection, one after the other."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping

from tests.chaos.faults.stage import Effect, Fault, Stage, seen
from tests.chaos.load.pace import Pace

IN_FLIGHT_SECONDS = 0.1  # after a burst has begun, a fault finds work in hand


def plan(names: list[str], rng: random.Random) -> Iterator[tuple[int, str]]:
    """Numbered names without end; each round has each once, in an order of its own."""
    count = 0
    while True:
        for name in rng.sample(names, len(names)):
            yield (count := count + 1), name


async def inject(
    stage: Stage, faults: Mapping[str, Fault], pace: Pace, until: float, tell: Callable[[str], None]
) -> None:
    """One fault after the other until the monotonic time `until`, but each at least once."""
    for count, name in plan(list(faults), stage.rng):
        await asyncio.sleep(stage.rng.uniform(1.0, 3.0))
        if count > len(faults) and time.monotonic() > until:
            return
        label = f"{count} {name}"
        tell(label)
        effect = await _apply(stage, faults[name], pace, label)
        tell(f"{label}: {'done' if effect.seen else 'WITHOUT EFFECT'}")


async def _apply(stage: Stage, fault: Fault, pace: Pace, label: str) -> Effect:
    whole = await seen(lambda: stage.fleet.whole)
    pace.burst.set()
    await asyncio.sleep(IN_FLIGHT_SECONDS)
    record = stage.fleet.record
    record("nemesis", "fault", "invoke", label)
    effect = await fault(stage) if whole else Effect(False)
    record("nemesis", "fault", "ok" if effect.seen else "info", label, pids=list(effect.pids))
    return effect
