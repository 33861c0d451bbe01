"""The faults by name, their order, and their injection one after the other."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping

from tests.chaos.faults import broker, brokers, delivery, processes
from tests.chaos.faults.context import Context, Effect, Fault, eventually
from tests.chaos.load.state import LoadState

IN_FLIGHT_SECONDS = 0.1  # after a burst has begun, tasks are in flight when the fault strikes


def _named(*faults: Fault) -> dict[str, Fault]:
    return {fault.__name__.replace("_", "-"): fault for fault in faults}


# These need a broker that keeps its log.
DURABLE_FAULTS = _named(broker.kill_broker, broker.stop_broker)
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
)  # fmt: skip


def plan(names: list[str], rng: random.Random) -> Iterator[tuple[int, str]]:
    """Numbered names without end; each round has each name once, in random order."""
    count = 0
    while True:
        for name in rng.sample(names, len(names)):
            yield (count := count + 1), name


async def inject(
    context: Context,
    faults: Mapping[str, Fault],
    state: LoadState,
    until: float,
    log: Callable[[str], None],
) -> None:
    """Inject faults until the monotonic time `until`, but each at least once."""
    for count, name in plan(list(faults), context.rng):
        await asyncio.sleep(context.rng.uniform(1.0, 3.0))
        if count > len(faults) and time.monotonic() > until:
            return
        label = f"{count} {name}"
        log(label)
        effect = await _apply(context, faults[name], state, label)
        log(f"{label}: {'done' if effect.seen else 'WITHOUT EFFECT'}")


async def _apply(context: Context, fault: Fault, state: LoadState, label: str) -> Effect:
    complete = await eventually(lambda: context.supervisor.complete)
    state.burst.set()
    await asyncio.sleep(IN_FLIGHT_SECONDS)
    record = context.supervisor.record
    record("nemesis", "fault", "invoke", label)
    effect = await fault(context) if complete else Effect(False)
    record("nemesis", "fault", "ok" if effect.seen else "info", label, pids=list(effect.pids))
    return effect
