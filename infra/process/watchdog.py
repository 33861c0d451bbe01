"""Ends a process that stalls with work pending, so that another one takes over."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Protocol

CHECKS_PER_TIMEOUT = 12


class Watched(Protocol):
    """The part of a consumer that the watchdog needs; see `streams.transport.consumer`."""

    @property
    def progress(self) -> int: ...
    def pending(self) -> bool: ...
    def reread_dropped(self) -> None: ...


class Watchdog:
    """Calls `end` with a reason after `timeout` seconds without progress while work is pending,
    or without a turn of the event loop. While `waits()`, the work is not expected to progress.

    A thread checks the loop, because a blocked loop cannot check itself.
    """

    def __init__(
        self,
        timeout: float,
        end: Callable[[str], object],
        waits: Callable[[], bool] = lambda: False,
    ) -> None:
        self._timeout = timeout
        self._end = end
        self._waits = waits
        self._beat = time.monotonic()

    def start(self) -> None:
        """Start the thread; by then `watch` must run in the loop."""
        threading.Thread(target=self._watch_loop, name="watchdog", daemon=True).start()

    def _watch_loop(self) -> None:
        while True:
            time.sleep(self._timeout / CHECKS_PER_TIMEOUT)
            silent = time.monotonic() - self._beat
            if silent > self._timeout:
                self._end(f"the event loop was blocked for {silent:.0f} s")
                return

    async def watch(self, consumer: Watched) -> None:
        """Check the consumer until cancelled."""
        progress, since = consumer.progress, time.monotonic()
        while True:
            await asyncio.sleep(self._timeout / CHECKS_PER_TIMEOUT)
            self._beat = now = time.monotonic()
            if consumer.progress != progress or not consumer.pending():
                if consumer.progress == progress:
                    consumer.reread_dropped()
                progress, since = consumer.progress, now
            elif self._waits():
                since = now
            elif now - since > self._timeout:
                self._end(f"no progress for {now - since:.0f} s with work pending")
                return
