"""The state that all clients of a run share: the signals, task ids and open requests."""

import asyncio
import contextlib
import random
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any
from uuid import UUID

from tests.chaos.history import Recorder

ANSWER_SECONDS = 45.0
AT_ONCE = 50  # tasks with an unknown outcome that are looked up, or sent again


def batched(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Parts of at most `size` ids."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


class LoadState:
    """Set `stop` to end the load, `burst` to make c1 send at once."""

    def __init__(self, record: Recorder, seed: int) -> None:
        self.record = record
        self.random = random.Random(seed)
        self.stop = asyncio.Event()
        self.burst = asyncio.Event()
        self.unknown: list[str] = []  # tasks whose outcome the client does not know
        self.deleted: list[Any] = []  # records of `results` that a fault has deleted
        self.unstored: set[str] = set()  # the ids of those that no sink had read
        self._requests: set[asyncio.Task[None]] = set()

    def new_id(self) -> str:
        """A task id that depends on the seed alone."""
        return str(UUID(bytes=self.random.randbytes(16), version=4))

    async def pause(self, seconds: float, event: asyncio.Event | None = None) -> None:
        """Sleep about `seconds`, but wake at the event (default: the end of the load)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds * self.random.uniform(0.5, 1.5)):
                await (event or self.stop).wait()

    def spawn(self, request: Coroutine[Any, Any, None]) -> None:
        """Run a request in the background."""
        task = asyncio.create_task(request)
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    def record_unknown(self, proc: str, task_id: str, reason: object) -> None:
        """Record that the outcome of a submit is unknown."""
        self.record(proc, "submit", "info", task_id, detail=str(reason)[:200])
        self.unknown.append(task_id)

    async def finish(self, deadline: float) -> None:
        """Wait for the open requests until the loop's time `deadline`, then cancel them."""
        if self._requests:
            loop = asyncio.get_running_loop()
            await asyncio.wait(set(self._requests), timeout=max(0.0, deadline - loop.time()))
        for task in self._requests:
            task.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
