"""The faults of delivery: a backlog after an outage of all workers, and a refused batch."""

import time

from tests.chaos.faults.context import Context, Effect, eventually

BACK_SECONDS = 60.0  # workers may have to start twice, and form a group each time


async def backlog(context: Context) -> Effect:
    """kill -9 all workers, publish a backlog, restart them; they answer all of it."""
    pids, answered = await _answer_a_backlog(context)
    return Effect(answered, pids)


async def refuse_batch(context: Context) -> Effect:
    """The same, and the broker refuses one batch of a chunk after it accepted another."""
    start = time.monotonic_ns()
    context.wire.refuse_a_further_batch()
    try:
        pids, answered = await _answer_a_backlog(context)
        refused = context.wire.has_refused
    finally:
        context.wire.accept_all()
    ended = [
        event.pids[0]
        for event in context.supervisor.record.since(start)
        if event.f == "exit" and event.type == "info" and "publishing results" in event.detail
    ]
    return Effect(answered and refused and len(ended) == 1, [*pids, *ended])


async def _answer_a_backlog(context: Context) -> tuple[list[int], bool]:
    """The pids of the killed workers, and whether their successors answered all tasks.

    They are killed, not stopped: the embedded broker does not form a group for a third time
    once all members have left it twice.
    """
    supervisor, start = context.supervisor, time.monotonic_ns()
    killed = await supervisor.kill_all("worker")
    wanted = set(await context.backlog.publish())
    for member in killed:
        supervisor.add(member.kind, member.number)
    answered = await eventually(
        lambda: wanted <= {e.id for e in context.answers_since(start)}, BACK_SECONDS
    )
    complete = await eventually(lambda: supervisor.complete)
    return [member.process.pid for member in killed], answered and complete
