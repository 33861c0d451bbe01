"""How many rows of a run wait in a queue or service: about a third of a second of its work.

So a single question that another client asks meanwhile waits about that long, and the workers still
always have something to do.
"""

import asyncio

TARGET_SECONDS = 0.3  # that a task may wait for the ones before it
FIRST_ROWS = 64
MAX_ROWS = 200_000
TASKS = 8  # in flight, so that each partition and worker has one
MAX_TASK_ROWS = 2_000
SHRINK = 0.7


class Window:
    """Bounds the rows in flight by the time that their answers take."""

    def __init__(self) -> None:
        self._limit = float(FIRST_ROWS)
        self._rows = 0
        self._free = asyncio.Condition()
        self._shrunk = 0.0  # when it was last

    @property
    def task_rows(self) -> int:
        """The rows of the next task."""
        return max(1, min(MAX_TASK_ROWS, int(self._limit / TASKS)))

    async def enter(self, rows: int) -> None:
        """Wait until so many more rows may be in flight. A single task always may."""
        async with self._free:
            await self._free.wait_for(lambda: not self._rows or self._rows + rows <= self._limit)
            self._rows += rows

    async def leave(self, rows: int, seconds: float | None) -> None:
        """End a task whose answer took so long; None: it has no answer."""
        async with self._free:
            if seconds is not None:
                self._learn(rows, seconds)
            self._rows -= rows
            self._free.notify_all()

    def _learn(self, rows: int, seconds: float) -> None:
        if seconds <= TARGET_SECONDS / 2:
            self._limit = min(MAX_ROWS, self._limit + rows)
            return
        now = asyncio.get_running_loop().time()
        if seconds > TARGET_SECONDS and now - self._shrunk > seconds:  # once for all in flight
            self._shrunk = now
            self._limit = max(1.0, self._limit * SHRINK)
