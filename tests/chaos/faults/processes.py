"""The faults. Each says whether its effect was seen, and has made whole what it broke."""

import asyncio
import resource
import signal
import sys
import time

from tests.chaos.delivery import faults as delivery
from tests.chaos.faults import outages
from tests.chaos.faults.stage import SETTLE, Effect, Fault, Stage, seen
from tests.chaos.fleet import Member
from tests.processes import Process

LOCK_SECONDS = 8.0  # longer than SQLite's busy_timeout
FULL_SECONDS = 6.0
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


class Writer:
    """The sink that writes, and what it says of its database from now on."""

    def __init__(self, stage: Stage) -> None:
        self.process = stage.fleet.of("sink")[0].process
        self._said = len(self.process.output)

    async def paused_and_resumed(self) -> bool:
        """Whether it says that it cannot write, and later that it can again."""
        return await self.says("cannot be written") and await self.says("can be written again")

    async def says(self, text: str) -> bool:
        """Whether it says something in time."""
        return await seen(lambda: text in self.process.output[self._said :])


async def lock_database(stage: Stage) -> Effect:
    """A third process holds the database's write lock."""
    writer = Writer(stage)
    command = [sys.executable, "-c", LOCKER, stage.fleet.pipeline.env["PETAL_DATABASE"]]
    log = stage.fleet.pipeline.folder / "locker.log"
    with Process([*command, str(LOCK_SECONDS)], log, {}) as locker:
        await seen(lambda: locker.exit_code is not None)
    return Effect(await writer.paused_and_resumed())


async def fill_database(stage: Stage) -> Effect:
    """No file of the sink may grow any more: writes fail as they do on a full disk."""
    writer = Writer(stage)
    pid, log = writer.process.pid, writer.process.log
    old = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (log.stat().st_size + ROOM_BYTES, old[1]))
    try:
        await writer.says("cannot be written")
        await asyncio.sleep(FULL_SECONDS)
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, old)
    return Effect(await writer.paused_and_resumed())


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


def _named(*faults: Fault) -> dict[str, Fault]:
    return {fault.__name__.replace("_", "-"): fault for fault in faults}


# What needs a broker that keeps its log.
DURABLE_FAULTS = _named(outages.kill_broker, outages.stop_broker)
FAULTS = _named(
    kill_worker, stop_worker, rolling_restart, pause_worker, kill_workers, add_and_remove_worker,
    kill_sink, lock_database, fill_database, kill_api, stop_api, flood, outages.cut_connections,
    outages.silence_broker, outages.pause_broker, kill_burst, delivery.backlog,
    delivery.refuse_batch,
)  # fmt: skip
