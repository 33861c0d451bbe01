"""The faults. Each returns whether its effect was seen; what it broke is whole again by then."""

import asyncio
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable

import psutil

from infra import broker, config
from tests.chaos.fleet import Fleet, Member
from tests.chaos.recorder import Recorder
from tests.processes import Process

EFFECT_SECONDS = 30.0
PAUSE_SECONDS = 9.0  # longer than the session, so that the group goes on without it
LOCK_SECONDS = 8.0  # longer than SQLite's busy_timeout
LOCKER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=5)
db.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
db.execute("ROLLBACK")
"""

Fault = Callable[[Fleet, random.Random], Awaitable[bool]]


async def seen(true: Callable[[], bool]) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + EFFECT_SECONDS
    while not true():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.1)
    return True


async def _end(member: Member, signum: signal.Signals) -> bool:
    """Send a signal, see the process end, see its successor at work."""
    victim = member.process
    member.hit(signum)
    return await seen(lambda: victim.exit_code is not None) and await seen(
        lambda: member.process is not victim and member.ready
    )


async def kill_worker(fleet: Fleet, rng: random.Random) -> bool:
    """kill -9 one worker."""
    return await _end(rng.choice(fleet.of("worker")), signal.SIGKILL)


async def kill_workers(fleet: Fleet, rng: random.Random) -> bool:
    """kill -9 all workers at once."""
    victims = fleet.of("worker")
    return all(await asyncio.gather(*(_end(m, signal.SIGKILL) for m in victims)))


async def stop_worker(fleet: Fleet, rng: random.Random) -> bool:
    """SIGTERM one worker."""
    return await _end(rng.choice(fleet.of("worker")), signal.SIGTERM)


async def pause_worker(fleet: Fleet, rng: random.Random) -> bool:
    """Freeze a worker until its group has gone on without it, then let it wake as a zombie."""
    victim = rng.choice(fleet.of("worker")).process
    victim.send(signal.SIGSTOP)
    try:
        stopped = await seen(lambda: psutil.Process(victim.pid).status() == psutil.STATUS_STOPPED)
        await asyncio.sleep(PAUSE_SECONDS)
    finally:
        victim.send(signal.SIGCONT)
    return stopped


async def kill_sink(fleet: Fleet, rng: random.Random) -> bool:
    """kill -9 the sink that writes; the one on standby takes over."""
    member = fleet.of("sink")[0]
    victim = member.process
    member.hit(signal.SIGKILL)
    return await seen(lambda: victim.exit_code is not None) and await seen(
        lambda: member.process is not victim and bool(fleet.of("sink"))
    )


async def lock_database(fleet: Fleet, rng: random.Random) -> bool:
    """A third process holds the database's write lock."""
    writer = fleet.of("sink")[0].process
    before = writer.output.count("cannot be written")
    database = fleet.pipeline.env["PETAL_DATABASE"]
    command = [sys.executable, "-c", LOCKER, database, str(LOCK_SECONDS)]
    with Process(command, fleet.pipeline.folder / "locker.log", {}) as locker:
        await seen(lambda: locker.exit_code is not None)
    return await seen(lambda: writer.output.count("cannot be written") > before)


async def add_and_remove_worker(fleet: Fleet, rng: random.Random) -> bool:
    """One more worker joins, works, and leaves."""
    more = fleet.add("worker", 3)
    joined = await seen(lambda: more.ready)
    await asyncio.sleep(rng.uniform(1.0, 4.0))
    return await fleet.remove(more) and joined


async def _end_broker(fleet: Fleet, signum: signal.Signals, away: float) -> bool:
    """Send the broker a signal, and start it again; it answers by the end."""
    assert fleet.broker is not None
    victim = fleet.broker
    victim.send(signum)
    if not await seen(lambda: victim.exit_code is not None):
        return False
    await asyncio.sleep(away)
    fleet.start_broker()
    await broker.prepare(config.load(fleet.pipeline.env))
    return await seen(lambda: bool(fleet.of("worker") and fleet.of("sink")))


async def kill_broker(fleet: Fleet, rng: random.Random) -> bool:
    """kill -9 the broker; it is back after some seconds."""
    return await _end_broker(fleet, signal.SIGKILL, rng.uniform(0.0, 4.0))


async def stop_broker(fleet: Fleet, rng: random.Random) -> bool:
    """SIGTERM the broker, and start it again at once."""
    return await _end_broker(fleet, signal.SIGTERM, 0.0)


async def pause_broker(fleet: Fleet, rng: random.Random) -> bool:
    """Freeze the broker for less than anyone's patience."""
    assert fleet.broker is not None
    fleet.broker.send(signal.SIGSTOP)
    await asyncio.sleep(rng.uniform(2.0, 5.0))
    fleet.broker.send(signal.SIGCONT)
    return True


BROKER_FAULTS: dict[str, Fault] = {
    "kill-broker": kill_broker,
    "stop-broker": stop_broker,
    "pause-broker": pause_broker,
}
FAULTS: dict[str, Fault] = {
    fault.__name__.replace("_", "-"): fault
    for fault in (
        kill_worker, pause_worker, kill_sink, lock_database, stop_worker, kill_workers,
        add_and_remove_worker,
    )
}  # fmt: skip


def plan(names: list[str], rng: random.Random) -> list[str]:
    """The names in a new order. Each round has each once."""
    return rng.sample(names, len(names))


async def inject(
    fleet: Fleet, faults: dict[str, Fault], record: Recorder, rng: random.Random, until: float
) -> None:
    """One fault after the other in shuffled rounds, until the monotonic time `until`."""
    count = 0
    while True:
        for name in plan(list(faults), rng):
            await asyncio.sleep(rng.uniform(1.0, 3.0))
            if time.monotonic() > until:
                return
            label = f"{(count := count + 1)} {name}"
            record("nemesis", "fault", "invoke", label)
            whole = await seen(lambda: bool(fleet.of("worker") and fleet.of("sink")))
            effect = whole and await faults[name](fleet, rng)
            record("nemesis", "fault", "ok" if effect else "info", label)
