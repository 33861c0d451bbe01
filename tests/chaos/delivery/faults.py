"""A backlog that waits for all workers, and a broker that refuses a part of a chunk's answers."""

import time

from tests.chaos.faults.stage import Effect, Stage, seen

BACK_SECONDS = 60.0  # workers may have to start twice, and form a group each time


async def backlog(stage: Stage) -> Effect:
    """kill -9 all workers, publish a backlog, start them: all of it is answered."""
    pids, answered = await _answer_a_backlog(stage)
    return Effect(answered, pids)


async def refuse_batch(stage: Stage) -> Effect:
    """The same, and one batch of a chunk is refused after another one of it was accepted."""
    start = time.monotonic_ns()
    stage.wire.refuse_a_further_batch()
    try:
        pids, answered = await _answer_a_backlog(stage)
        refused = stage.wire.has_refused
    finally:
        stage.wire.accept_all()
    ended = [
        event.pids[0]
        for event in stage.fleet.record.since(start)
        if event.f == "exit" and event.type == "info" and "publishing results" in event.detail
    ]
    return Effect(answered and refused and len(ended) == 1, [*pids, *ended])


async def _answer_a_backlog(stage: Stage) -> tuple[list[int], bool]:
    """The workers that were killed, and whether all was answered by others.

    They are killed: the embedded broker does not form a group again that all have left twice.
    """
    fleet, start = stage.fleet, time.monotonic_ns()
    killed = await fleet.kill_all("worker")
    wanted = set(await stage.backlog.publish())
    for member in killed:
        fleet.add(member.kind, member.number)
    answered = await seen(
        lambda: wanted <= {e.id for e in stage.answers_since(start)}, BACK_SECONDS
    )
    whole = await seen(lambda: fleet.whole)
    return [member.process.pid for member in killed], answered and whole
