"""What all clients of a run share: when to go on, what to call the next task, what is open."""

import asyncio
import contextlib
import random
from collections.abc import Coroutine
from typing import Any
from uuid import UUID

from tests.chaos.recorder import Recorder

ANSWER_SECONDS = 45.0


class Pace:
    """Set `stop` to end the load, `burst` to have c1 send at once."""

    def __init__(self, record: Recorder, seed: int) -> None:
        self.record = record
        self.random = random.Random(seed)
        self.stop = asyncio.Event()
        self.burst = asyncio.Event()
        self.unknown: list[str] = []  # tasks whose client does not know whether they exist
        self._asking: set[asyncio.Task[None]] = set()

    def new_id(self) -> str:
        """A task id that depends on the seed alone."""
        return str(UUID(bytes=self.random.randbytes(16), version=4))

    async def pause(self, seconds: float, event: asyncio.Event | None = None) -> None:
        """About so long, but not beyond the event (default: the end of the load)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds * self.random.uniform(0.5, 1.5)):
                await (event or self.stop).wait()

    def spawn(self, ask: Coroutine[Any, Any, None]) -> None:
        """Have a question answered in the background."""
        task = asyncio.create_task(ask)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def doubt(self, proc: str, task_id: str, why: object) -> None:
        """Note that a task may exist or not."""
        self.record(proc, "submit", "info", task_id, detail=str(why)[:200])
        self.unknown.append(task_id)

    async def answered(self, deadline: float) -> None:
        """Wait for the open questions until the loop's time `deadline`, then give up on them."""
        if self._asking:
            loop = asyncio.get_running_loop()
            await asyncio.wait(set(self._asking), timeout=max(0.0, deadline - loop.time()))
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
