"""Reloads of what a process serves: on SIGHUP, or when it notices itself that there is more."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from infra.process.hangup import on_hangup

WATCH_SECONDS = 1.0

logger = logging.getLogger("petalstream")


class Reloading:
    """Calls `reload` in the running loop, one call at a time, while it is open.

    `is_new` is asked once a second, in a thread: a file system that does not answer must not stop
    the loop, and may not raise.
    """

    def __init__(self, reload: Callable[[], Awaitable[None]], is_new: Callable[[], bool]) -> None:
        self._reload = reload
        self._is_new = is_new
        self._wanted = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> None:
        """Serve requests from now on, and the one that came before."""
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._serve())]

    def listen(self) -> None:
        """Take a SIGHUP as a request."""
        on_hangup(self.request)

    def request(self) -> None:
        """Reload, after a reload that is in progress."""
        self._wanted.set()

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if await asyncio.to_thread(self._is_new):
                self.request()

    async def _serve(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._reload()
            except Exception as e:  # the outermost edge: what is served goes on
                logger.error("the reload failed", exc_info=e)
