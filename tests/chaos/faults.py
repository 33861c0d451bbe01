"""The faults. Each says whether its effect was seen; what it broke is whole again by then."""

import asyncio
import random
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from infra import broker, config
from tests.chaos.fleet import Fleet, Member
from tests.chaos.history import Event
from tests.chaos.load import Load
from tests.processes import Process

EFFECT_SECONDS = 30.0
LOCK_SECONDS = 8.0  # longer than SQLite's busy_timeout
FULL_SECONDS = 6.0
SETTLE = 1.0  # seconds in which what was on its way arrives
KILLS, KILL_SECONDS = 5, 0.7
ROOM_BYTES = 64 << 10  # for the sink's own log while its files may not grow
LOCKER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=5)
db.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
db.execute("ROLLBACK")
"""


class Effect(NamedTuple):
    """Whether a fault did what it should, and the processes that it hit."""

    seen: bool
    pids: Sequence[int] = ()


class Stage(NamedTuple):
    """What a fault may play with."""

    fleet: Fleet
    load: Load
    rng: random.Random

    def answers_since(self, t: int) -> Iterator[Event]:
        """What c4 has read from `results` after a moment, the latest first."""
        return (e for e in self.fleet.record.since(t) if e.proc == "c4")


Fault = Callable[[Stage], Awaitable[Effect]]


async def seen(true: Callable[[], object]) -> bool:
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


async def kill_worker(stage: Stage) -> Effect:
    """kill -9 one worker."""
    member = stage.rng.choice(stage.fleet.of("worker"))
    return Effect(pids=[member.process.pid], seen=await _end(member, signal.SIGKILL))


async def kill_workers(stage: Stage) -> Effect:
    """kill -9 all workers at once."""
    victims = stage.fleet.of("worker")
    pids = [member.process.pid for member in victims]
    return Effect(all(await asyncio.gather(*(_end(m, signal.SIGKILL) for m in victims))), pids)


async def kill_burst(stage: Stage) -> Effect:
    """kill -9 workers and sinks at random, faster than they come back."""
    pids = []
    for _ in range(KILLS):
        alive = [m for m in stage.fleet.members.values() if m.alive and m.kind != "api"]
        if alive:
            pids.append(stage.rng.choice(alive).hit(signal.SIGKILL))
        await asyncio.sleep(KILL_SECONDS)
    return Effect(await seen(lambda: stage.fleet.whole) and len(pids) > 1, pids)


async def stop_worker(stage: Stage) -> Effect:
    """SIGTERM one worker."""
    return Effect(await _end(stage.rng.choice(stage.fleet.of("worker")), signal.SIGTERM))


async def rolling_restart(stage: Stage) -> Effect:
    """SIGTERM one worker after the other, the next one when its successor works."""
    return Effect(all([await _end(m, signal.SIGTERM) for m in stage.fleet.of("worker")]))


async def pause_worker(stage: Stage) -> Effect:
    """Freeze a worker until its group has gone on without it, then let it wake as a zombie."""
    victim = stage.rng.choice(stage.fleet.of("worker")).process
    served = _served_by(stage, victim.pid)
    victim.send(signal.SIGSTOP)
    try:
        await asyncio.sleep(SETTLE)
        since = time.monotonic_ns()
        gone_on = await seen(lambda: served <= _partitions_without(stage, victim.pid, since))
    finally:
        victim.send(signal.SIGCONT)
    back = time.monotonic_ns()
    resumed = await seen(lambda: any(stage.answers_since(back)))
    return Effect(gone_on and resumed, [victim.pid])


def _served_by(stage: Stage, pid: int) -> set[int]:
    """The partitions whose last answer came from a worker."""
    last: dict[int, list[int]] = {}
    for event in stage.answers_since(0):
        if event.place is not None:
            last.setdefault(event.place[0], event.pids)
    return {partition for partition, pids in last.items() if pids == [pid]}


def _partitions_without(stage: Stage, pid: int, since: int) -> set[int]:
    return {e.place[0] for e in stage.answers_since(since) if e.place and e.pids != [pid]}


async def add_and_remove_worker(stage: Stage) -> Effect:
    """One more worker joins, works, and leaves."""
    more = stage.fleet.add("worker", 3)
    joined = await seen(lambda: more.ready)
    await asyncio.sleep(stage.rng.uniform(1.0, 4.0))
    return Effect(await stage.fleet.remove(more) and joined)


async def kill_sink(stage: Stage) -> Effect:
    """kill -9 the sink that writes; the one on standby takes over."""
    (member, *_), victim = stage.fleet.of("sink"), stage.fleet.of("sink")[0].process
    pid = member.hit(signal.SIGKILL)
    ended = await seen(lambda: victim.exit_code is not None)
    back = await seen(lambda: member.process is not victim and stage.fleet.of("sink"))
    return Effect(ended and back, [pid])


async def lock_database(stage: Stage) -> Effect:
    """A third process holds the database's write lock."""
    fleet = stage.fleet
    writer = fleet.of("sink")[0].process
    before = writer.output.count("cannot be written")
    command = [sys.executable, "-c", LOCKER, fleet.pipeline.env["PETAL_DATABASE"]]
    log = fleet.pipeline.folder / "locker.log"
    with Process([*command, str(LOCK_SECONDS)], log, {}) as locker:
        await seen(lambda: locker.exit_code is not None)
    return Effect(
        await seen(lambda: writer.output.count("cannot be written") > before)
        and await seen(lambda: writer.output.rstrip().endswith("can be written again"))
    )


async def fill_database(stage: Stage) -> Effect:
    """No file of the sink may grow any more: writes fail as they do on a full disk."""
    writer = stage.fleet.of("sink")[0].process
    before = writer.output.count("cannot be written")
    database = Path(stage.fleet.pipeline.env["PETAL_DATABASE"])
    old = resource.prlimit(writer.pid, resource.RLIMIT_FSIZE)
    size = writer.log.stat().st_size + ROOM_BYTES
    resource.prlimit(writer.pid, resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        full = await seen(lambda: writer.output.count("cannot be written") > before)
        await asyncio.sleep(FULL_SECONDS)
    finally:
        resource.prlimit(writer.pid, resource.RLIMIT_FSIZE, old)
    healed = await seen(lambda: "can be written again" in writer.output)
    return Effect(full and healed and database.exists())


async def kill_api(stage: Stage) -> Effect:
    """kill -9 the REST service."""
    member = stage.fleet.of("api")[0]
    return Effect(pids=[member.process.pid], seen=await _end(member, signal.SIGKILL))


async def stop_api(stage: Stage) -> Effect:
    """SIGTERM the REST service while requests wait."""
    return Effect(await _end(stage.fleet.of("api")[0], signal.SIGTERM))


async def flood(stage: Stage) -> Effect:
    """A burst of tasks, far above the usual rate; all are answered."""
    start = time.monotonic_ns()
    wanted = set(await stage.load.flood())
    return Effect(await seen(lambda: wanted <= {e.id for e in stage.answers_since(start)}))


async def _outage(stage: Stage, seconds: float, heal: Callable[[], Awaitable[object]]) -> bool:
    """Wait, heal, and see that nothing was answered meanwhile and that answers came after it."""
    await asyncio.sleep(SETTLE)
    start = time.monotonic_ns()
    await asyncio.sleep(seconds)
    nothing = not any(stage.answers_since(start))
    await heal()
    healed = time.monotonic_ns()
    return await seen(lambda: any(stage.answers_since(healed))) and nothing


async def cut_connections(stage: Stage) -> Effect:
    """Cut all connections to the broker, and refuse new ones."""
    proxy = stage.fleet.broker.proxy
    before = proxy.cut
    await proxy.refuse()
    away = await _outage(stage, stage.rng.uniform(3.0, 5.0), proxy.listen)
    return Effect(away and proxy.cut > before)


async def silence_broker(stage: Stage) -> Effect:
    """Swallow what the broker says: it hears all, and nobody hears it."""
    proxy = stage.fleet.broker.proxy
    before = proxy.swallowed
    proxy.silence()
    away = await _outage(stage, stage.rng.uniform(3.0, 5.0), proxy.speak)
    return Effect(away and proxy.swallowed > before)


async def pause_broker(stage: Stage) -> Effect:
    """Freeze the broker."""

    async def wake() -> None:
        stage.fleet.broker.send(signal.SIGCONT)

    stage.fleet.broker.send(signal.SIGSTOP)
    return Effect(await _outage(stage, stage.rng.uniform(2.0, 4.0), wake))


async def _end_broker(stage: Stage, signum: signal.Signals, away: float) -> Effect:
    """Send the broker a signal, and start it again; it answers by the end."""
    victim = stage.fleet.broker.process
    victim.send(signum)
    if not await seen(lambda: victim.exit_code is not None):
        return Effect(False, [victim.pid])
    await asyncio.sleep(away)
    stage.fleet.broker.start_kafka()
    await broker.prepare(config.load(stage.fleet.pipeline.env))
    back = time.monotonic_ns()
    resumed = await seen(lambda: stage.fleet.whole and any(stage.answers_since(back)))
    return Effect(resumed, [victim.pid])


async def kill_broker(stage: Stage) -> Effect:
    """kill -9 the broker; it is back after some seconds."""
    return await _end_broker(stage, signal.SIGKILL, stage.rng.uniform(0.0, 4.0))


async def stop_broker(stage: Stage) -> Effect:
    """SIGTERM the broker, and start it again at once."""
    return await _end_broker(stage, signal.SIGTERM, 0.0)


def _named(*faults: Fault) -> dict[str, Fault]:
    return {fault.__name__.replace("_", "-"): fault for fault in faults}


# What needs a broker that keeps its log.
DURABLE_FAULTS = _named(kill_broker, stop_broker)
FAULTS = _named(
    kill_worker, stop_worker, rolling_restart, pause_worker, kill_workers, add_and_remove_worker,
    kill_sink, lock_database, fill_database, kill_api, stop_api, flood, cut_connections,
    silence_broker, pause_broker, kill_burst,
)  # fmt: skip
