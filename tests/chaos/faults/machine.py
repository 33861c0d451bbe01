"""The faults of a worker's machine: its network and its clock."""

import asyncio
import sys
import time
from pathlib import Path

import msgspec

from tests.chaos.faults.context import SETTLE_SECONDS, Context, Effect, eventually
from tests.chaos.faults.processes import end, partitions_without, served_by
from tests.chaos.supervisor import Member
from tests.processes import ROOT, clean_environ

SKEW_FOLDER = Path(__file__).parent.parent / "skew"
SKEW_SECONDS = 3600.0
SKEWED_TASKS = 20
SKEWED_CLIENT_SECONDS = 60.0


async def partition_worker(context: Context) -> Effect:
    """Cut one worker off until the others have taken over its partitions; then it comes back.

    Its requests that were under way reach the broker late, when it is a zombie.
    """
    member, start = context.rng.choice(context.supervisor.of("worker")), time.monotonic_ns()
    pid, held = member.process.pid, context.isolation.held
    served = served_by(context, pid)
    context.isolation.begin(lambda: member.process.pid)
    try:
        await asyncio.sleep(SETTLE_SECONDS)
        since = time.monotonic_ns()
        taken_over = await eventually(lambda: served <= partitions_without(context, pid, since))
    finally:
        pids = [pid, member.process.pid]
        context.isolation.end()
    back = time.monotonic_ns()
    resumed = await eventually(
        lambda: context.supervisor.complete and any(context.answers_since(back))
    )
    exits = (e for e in context.supervisor.record.since(start) if e.proc == member.name)
    pids += [event.pids[0] for event in exits if event.f == "exit"]
    cut = context.isolation.held > held
    return Effect(bool(served) and cut and taken_over and resumed, sorted({*pids}))


async def skew_clock(context: Context) -> Effect:
    """Restart a worker with a clock that is an hour off; a client with another such clock asks."""
    worker, client = context.rng.sample([SKEW_SECONDS, -SKEW_SECONDS], 2)
    member = context.rng.choice(context.supervisor.of("worker"))
    started = await _restart(member, _skewed(worker))
    victim, since = member.process, time.monotonic_ns()
    asked = await _ask_skewed(context, client)
    answered = await eventually(
        lambda: any(e.pids == [victim.pid] for e in context.answers_since(since))
    )
    skewed = f"the clock is {worker:+g} s off" in victim.output
    restarted = await _restart(member, {})
    return Effect(started and asked and answered and skewed and restarted)


def _skewed(seconds: float) -> dict[str, str]:
    return {"PYTHONPATH": str(SKEW_FOLDER), "CLOCK_SKEW_SECONDS": str(seconds)}


async def _restart(member: Member, env: dict[str, str]) -> bool:
    """SIGTERM a worker; its successor gets these variables."""
    member.env = env
    return await end(member)


async def _ask_skewed(context: Context, seconds: float) -> bool:
    """Ask tasks in a process with a skewed clock; whether it had an answer to each."""
    ids = [context.state.new_id() for _ in range(SKEWED_TASKS)]
    record = context.supervisor.record
    for task_id in ids:
        record("c5", "submit", "invoke", task_id)
    env = {**clean_environ(), **context.supervisor.pipeline.env, **_skewed(seconds)}
    log = context.supervisor.pipeline.folder / "skewed-client.log"
    with log.open("ab") as errors:
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chaos.load.skewed", cwd=ROOT, env=env,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(
            client.communicate(" ".join(ids).encode()), SKEWED_CLIENT_SECONDS
        )
    answered = {line[0]: line[1:] for line in map(msgspec.json.decode, output.splitlines())}
    for task_id in ids:
        if answer := answered.get(task_id):
            record("c5", "submit", "ok", task_id)
            record("c5", "await", "ok", task_id, got=answer[0], y=answer[1])
        else:
            context.state.record_unknown("c5", task_id, "no answer in the skewed client")
    return all(answered.get(task_id) for task_id in ids)
