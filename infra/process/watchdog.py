"""Notices a process that stalls with work pending, and ends it so that another takes over."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Protocol

LOOKS_PER_TIMEOUT = 12


class Watched(Protocol):
    """What the watchdog needs of a consumer."""

    @property
    def progress(self) -> int: ...
    def pending(self) -> bool: ...
    def read_again(self) -> None: ...


class Watchdog:
    """`end` is called with a reason after `timeout` seconds without progress, work pending,
    or without a turn of the event loop.

    The second look is taken by a thread: a loop that is blocked cannot look at itself.
    """

    def __init__(self, timeout: float, end: Callable[[str], object]) -> None:
        self._timeout = timeout
        self._end = end
        self._beat = time.monotonic()

    def start(self) -> None:
        """Start the thread; `watch` must be running in the loop by then."""
        threading.Thread(target=self._watch_loop, name="watchdog", daemon=True).start()

    def _watch_loop(self) -> None:
        while True:
            time.sleep(self._timeout / LOOKS_PER_TIMEOUT)
            silent = time.monotonic() - self._beat
            if silent > self._timeout:
                self._end(f"the event loop was blocked for {silent:.0f} s")
                return

    async def watch(self, consumer: Watched) -> None:
        """Look at the consumer until cancelled."""
        progress, since = consumer.progress, time.monotonic()
        while True:
            await asyncio.sleep(self._timeout / LOOKS_PER_TIMEOUT)
            self._beat = now = time.monotonic()
            if consumer.progress != progress or not consumer.pending():
                if consumer.progress == progress:
                    consumer.read_again()
                progress, since = consumer.progress, now
            elif now - since > self._timeout:
                self._end(f"no progress for {now - since:.0f} s with work pending")
                return
