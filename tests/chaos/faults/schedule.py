"""The faults by name, their order, and their injection one after the other.

Each fault waits for a situation, as far as it comes in time, and strikes at that moment.
"""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping

from tests.chaos.delivery.progress import MANY_FAULTS
from tests.chaos.faults import broker, brokers, delivery, machine, offsets, processes
from tests.chaos.faults.context import Context, Effect, Fault, eventually

AIM_SECONDS = 2.0  # within which a situation comes while c1 sends a burst
REBALANCE_SECONDS = 10.0  # within which a group rebalances after a worker has left


def _named(*faults: Fault) -> dict[str, Fault]:
    return {fault.__name__.replace("_", "-"): fault for fault in faults}


# These need a broker that keeps its log, deletes records on demand, and sets a group's offsets.
DURABLE_FAULTS = _named(
    broker.kill_broker, broker.stop_broker, offsets.expire_results, offsets.reset_group
)
# These need several brokers.
CLUSTER_FAULTS = _named(
    brokers.kill_leader, brokers.lose_disk, brokers.two_down, brokers.rolling_brokers,
    brokers.partition_broker,
)  # fmt: skip
FAULTS = _named(
    processes.kill_worker, processes.stop_worker, processes.rolling_restart,
    processes.pause_worker, processes.kill_workers, processes.add_and_remove_worker,
    processes.kill_sink, processes.lock_database, processes.fill_database, processes.kill_api,
    processes.stop_api, processes.flood, broker.cut_connections, broker.silence_broker,
    broker.pause_broker, processes.kill_burst, delivery.backlog, delivery.refuse_batch,
    machine.partition_worker, machine.skew_clock,
)  # fmt: skip


def plan(names: list[str], rng: random.Random) -> Iterator[tuple[int, str]]:
    """Numbered names without end; each round has each name once, in random order."""
    count = 0
    while True:
        for name in rng.sample(names, len(names)):
            yield (count := count + 1), name


def aims(rng: random.Random, rebalances: bool) -> Iterator[str]:
    """The situations to strike in without end: mostly in the middle of work."""
    some = ["chunk", "commit", "chunk", "commit", *["rebalance"] * rebalances]
    while True:
        yield from rng.sample(some, len(some))


async def inject(
    context: Context,
    faults: Mapping[str, Fault],
    until: float,
    log: Callable[[str], None],
) -> None:
    """Inject faults until the monotonic time `until`, but each at least once."""
    aim = aims(context.rng, rebalances=len(faults) >= MANY_FAULTS)
    for count, name in plan(list(faults), context.rng):
        await asyncio.sleep(context.rng.uniform(1.0, 3.0))
        if count > len(faults) and time.monotonic() > until:
            return
        label = f"{count} {name}"
        log(label)
        effect = await _apply(context, faults[name], label, next(aim))
        log(f"{label}: {'done' if effect.seen else 'WITHOUT EFFECT'}")


async def _apply(context: Context, fault: Fault, label: str, situation: str) -> Effect:
    complete = await eventually(lambda: context.supervisor.complete)
    await _take_aim(context, situation)
    record, met = context.supervisor.record, context.wire.progress.met
    record("nemesis", "fault", "invoke", label, met=met)
    effect = await fault(context) if complete else Effect(False)
    type_ = "ok" if effect.seen else "info"
    record("nemesis", "fault", type_, label, pids=list(effect.pids), span=effect.span)
    return effect


async def _take_aim(context: Context, situation: str) -> None:
    """Wait until the situation holds, or in vain."""
    progress = context.wire.progress
    if situation == "rebalance":
        context.rng.choice(context.supervisor.of("worker")).hit(signal.SIGTERM)
        await progress.until(situation, REBALANCE_SECONDS)
    context.state.burst.set()
    if situation != "rebalance":
        await progress.until(situation, AIM_SECONDS)
