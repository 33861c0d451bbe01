"""The faults of workers, sinks, API and database.

Each fault repairs its damage before it returns, and returns whether its effect was seen.
"""

import asyncio
import resource
import signal
import sys
import time

from tests.chaos.faults.context import SETTLE_SECONDS, Context, Effect, eventually
from tests.chaos.supervisor import Member
from tests.processes import Process

LOCK_SECONDS = 8.0  # longer than SQLite's busy_timeout
FULL_SECONDS = 6.0
KILLS, KILL_SECONDS = 5, 0.7
LOG_BYTES = 64 << 10  # room for the sink's own log while its files may not grow
LOCKER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=5)
db.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
db.execute("ROLLBACK")
"""


async def end(member: Member, signum: signal.Signals = signal.SIGTERM) -> bool:
    """Send a signal; True if the process ends and its successor becomes ready."""
    victim = member.process
    member.hit(signum)
    return await eventually(lambda: victim.exit_code is not None) and await eventually(
        lambda: member.process is not victim and member.ready
    )


async def kill_worker(context: Context) -> Effect:
    """kill -9 one worker."""
    member = context.rng.choice(context.supervisor.of("worker"))
    return Effect(pids=[member.process.pid], seen=await end(member, signal.SIGKILL))


async def kill_workers(context: Context) -> Effect:
    """kill -9 all workers at once."""
    victims = context.supervisor.of("worker")
    pids = [member.process.pid for member in victims]
    return Effect(all(await asyncio.gather(*(end(m, signal.SIGKILL) for m in victims))), pids)


async def kill_burst(context: Context) -> Effect:
    """kill -9 random workers and sinks, faster than they restart."""
    pids = []
    for _ in range(KILLS):
        alive = [m for m in context.supervisor.members.values() if m.alive and m.kind != "api"]
        if alive:
            pids.append(context.rng.choice(alive).hit(signal.SIGKILL))
        await asyncio.sleep(KILL_SECONDS)
    return Effect(await eventually(lambda: context.supervisor.complete) and len(pids) > 1, pids)


async def stop_worker(context: Context) -> Effect:
    """SIGTERM one worker."""
    return Effect(await end(context.rng.choice(context.supervisor.of("worker")), signal.SIGTERM))


async def rolling_restart(context: Context) -> Effect:
    """SIGTERM each worker in turn, once the successor of the previous one is ready."""
    return Effect(all([await end(m, signal.SIGTERM) for m in context.supervisor.of("worker")]))


async def pause_worker(context: Context) -> Effect:
    """SIGSTOP a worker until the others have taken over its partitions, then wake the zombie."""
    victim = context.rng.choice(context.supervisor.of("worker")).process
    served = served_by(context, victim.pid)
    victim.send(signal.SIGSTOP)
    try:
        await asyncio.sleep(SETTLE_SECONDS)
        since = time.monotonic_ns()
        taken_over = await eventually(
            lambda: served <= partitions_without(context, victim.pid, since)
        )
    finally:
        victim.send(signal.SIGCONT)
    back = time.monotonic_ns()
    resumed = await eventually(lambda: any(context.answers_since(back)))
    return Effect(taken_over and resumed, [victim.pid])


def served_by(context: Context, pid: int) -> set[int]:
    """The partitions whose latest answer came from this worker."""
    last: dict[int, list[int]] = {}
    for event in context.answers_since(0):
        if event.place is not None:
            last.setdefault(event.place[0], event.pids)
    return {partition for partition, pids in last.items() if pids == [pid]}


def partitions_without(context: Context, pid: int, since: int) -> set[int]:
    return {e.place[0] for e in context.answers_since(since) if e.place and e.pids != [pid]}


async def add_and_remove_worker(context: Context) -> Effect:
    """A third worker joins, works, and leaves."""
    third = context.supervisor.add("worker", 3)
    joined = await eventually(lambda: third.ready)
    await asyncio.sleep(context.rng.uniform(1.0, 4.0))
    return Effect(await context.supervisor.remove(third) and joined)


async def kill_sink(context: Context) -> Effect:
    """kill -9 the active sink; the one on standby takes over."""
    (member, *_), victim = context.supervisor.of("sink"), context.supervisor.of("sink")[0].process
    pid = member.hit(signal.SIGKILL)
    ended = await eventually(lambda: victim.exit_code is not None)
    back = await eventually(lambda: member.process is not victim and context.supervisor.of("sink"))
    return Effect(ended and back, [pid])


class Writer:
    """The active sink, and what it logs from now on."""

    def __init__(self, context: Context) -> None:
        self.process = context.supervisor.of("sink")[0].process
        self._start = len(self.process.output)

    async def paused_and_resumed(self) -> bool:
        """Whether it logs that it cannot write, and later that it can."""
        return await self.logs("cannot be written") and await self.logs("can be written again")

    async def logs(self, text: str) -> bool:
        """Whether it logs this text in time."""
        return await eventually(lambda: text in self.process.output[self._start :])


async def lock_database(context: Context) -> Effect:
    """A third process holds the database's write lock."""
    writer = Writer(context)
    command = [sys.executable, "-c", LOCKER, context.supervisor.pipeline.env["PETAL_DATABASE"]]
    log = context.supervisor.pipeline.folder / "locker.log"
    with Process([*command, str(LOCK_SECONDS)], log, {}) as locker:
        await eventually(lambda: locker.exit_code is not None)
    return Effect(await writer.paused_and_resumed())


async def fill_database(context: Context) -> Effect:
    """Limit the size of the sink's files, so that writes fail as on a full disk."""
    writer = Writer(context)
    pid, log = writer.process.pid, writer.process.log
    old = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (log.stat().st_size + LOG_BYTES, old[1]))
    try:
        await writer.logs("cannot be written")
        await asyncio.sleep(FULL_SECONDS)
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, old)
    return Effect(await writer.paused_and_resumed())


async def kill_api(context: Context) -> Effect:
    """kill -9 the REST service."""
    member = context.supervisor.of("api")[0]
    return Effect(pids=[member.process.pid], seen=await end(member, signal.SIGKILL))


async def stop_api(context: Context) -> Effect:
    """SIGTERM the REST service while requests wait."""
    return Effect(await end(context.supervisor.of("api")[0], signal.SIGTERM))


async def flood(context: Context) -> Effect:
    """Send 300 tasks at once; all are answered."""
    start = time.monotonic_ns()
    wanted = set(await context.load.flood())
    return Effect(await eventually(lambda: wanted <= {e.id for e in context.answers_since(start)}))
