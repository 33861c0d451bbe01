"""A stall with work pending ends the process; idleness and slow progress do not."""

import asyncio
import contextlib
import time

import pytest

from infra.process.watchdog import Watchdog
from tests.processes import wait_until

TIMEOUT = 0.3


class Consumer:
    """Counts its progress while it moves."""

    def __init__(self, moves: bool, work: bool) -> None:
        self._moves, self._work = moves, work
        self._progress = 0
        self.reread = 0

    @property
    def progress(self) -> int:
        self._progress += self._moves
        return self._progress

    def pending(self) -> bool:
        return self._work

    def reread_dropped(self) -> None:
        self.reread += 1


def watch(consumer: Consumer, seconds: float) -> list[str]:
    """The reasons to end that were given within so many seconds."""
    reasons: list[str] = []

    async def run() -> None:
        watching = Watchdog(TIMEOUT, reasons.append).watch(consumer)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(watching, seconds)

    asyncio.run(run())
    return reasons


def test_a_stall_with_work_pending_is_a_reason_to_end() -> None:
    [reason] = watch(Consumer(moves=False, work=True), seconds=10)
    assert reason.endswith("with work pending")


@pytest.mark.parametrize(("moves", "work"), [(True, True), (False, False)])
def test_progress_or_idleness_is_no_reason_to_end(moves: bool, work: bool) -> None:
    consumer = Consumer(moves, work)
    assert watch(consumer, seconds=4 * TIMEOUT) == []
    assert (consumer.reread > 0) == (not work), "an idle consumer rereads dropped records"


def test_work_that_waits_for_something_else_is_no_reason_to_end() -> None:
    reasons: list[str] = []

    async def run() -> None:
        watchdog = Watchdog(TIMEOUT, reasons.append, waits=lambda: True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(watchdog.watch(Consumer(moves=False, work=True)), 4 * TIMEOUT)

    asyncio.run(run())
    assert reasons == []


def test_a_blocked_loop_is_a_reason_to_end() -> None:
    reasons: list[str] = []
    watchdog = Watchdog(TIMEOUT, reasons.append)
    watchdog.start()

    async def blocked() -> None:
        watching = asyncio.create_task(watchdog.watch(Consumer(moves=True, work=True)))
        await asyncio.sleep(2 * TIMEOUT)
        assert reasons == []
        deadline = time.monotonic() + 10
        while not reasons and time.monotonic() < deadline:
            pass  # like a predict that never returns
        watching.cancel()

    asyncio.run(blocked())
    wait_until(lambda: reasons, 1, "the reason")
    assert "blocked" in reasons[0]
