"""Looks at the pipeline while somebody watches: one look for all watchers, twice a second."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from contextvars import Context

import msgspec

from api.errors import Stopping, Unavailable
from api.live.snapshot import History, Snapshot, row
from api.live.sources import Sources
from api.live.viewer import Viewer
from api.metrics import Metrics
from api.tasks import sse
from infra.config import Settings

LOOK_SECONDS = 0.5
LINGER_SECONDS = 30.0  # for which it goes on without watchers: a page that is loaded again
HISTORY_SECONDS = 600.0
MAX_WATCHERS = 100
RETRY_MS = 1000


class Sampler:
    """The snapshots of one service, and the figures of the last minutes."""

    def __init__(
        self, settings: Settings, metrics: Metrics, models: Callable[[], list[str]]
    ) -> None:
        self._sources = Sources(settings, metrics)
        self._viewer = Viewer(settings)
        self._models = models
        self._rows: deque[tuple[float | None, ...]] = deque()
        self._latest: Snapshot | None = None
        self._encoded = b""
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._watchers = 0
        self._unwatched_at = 0.0
        self._stopping = False

    def stop(self) -> None:
        """End all streams, present and future."""
        self._stopping = True
        self._changed.set()

    async def close(self) -> None:
        """Stop looking, and disconnect."""
        if self._looking is not None and not self._looking.done():
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    def watch(self) -> AsyncGenerator[bytes, None]:
        """The events for one watcher; raises Unavailable."""
        if self._stopping:
            raise Stopping
        if self._watchers >= MAX_WATCHERS:
            raise Unavailable(f"{MAX_WATCHERS} pages are open already")
        return self._events()

    async def _events(self) -> AsyncGenerator[bytes, None]:
        self._watchers += 1
        try:
            if self._looking is None or self._looking.done():
                self._changed.clear()
                # In an empty context: its log lines belong to no request.
                self._looking = asyncio.create_task(self._look(), context=Context())
            yield f"retry: {RETRY_MS}\n\n".encode()
            yield sse.encode("history", msgspec.json.encode(self._history()))
            if self._latest is not None and time.time() - self._latest.at < 2 * LOOK_SECONDS:
                yield self._encoded
            while not self._stopping:
                await self._changed.wait()  # a slow watcher misses snapshots, and gets the latest
                if self._looking.done() and not self._stopping:
                    self._looking.result()  # raises; the watcher comes again
                    return
                if not self._stopping:
                    yield self._encoded
        finally:
            self._watchers -= 1
            self._unwatched_at = time.monotonic()

    async def _look(self) -> None:
        try:
            while self._watchers or time.monotonic() - self._unwatched_at < LINGER_SECONDS:
                begun = time.monotonic()
                self._publish(self._viewer.shot(await self._sources.look(), self._models()))
                await asyncio.sleep(max(LOOK_SECONDS / 2, LOOK_SECONDS + begun - time.monotonic()))
        finally:
            await self._sources.close()
            self._changed.set()

    def _publish(self, shot: Snapshot) -> None:
        self._latest = shot
        self._encoded = sse.encode("snapshot", msgspec.json.encode(shot))
        self._rows.append(row(shot))
        while self._rows and shot.at - (self._rows[0][0] or 0.0) > HISTORY_SECONDS:
            self._rows.popleft()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _history(self) -> History:
        columns = (
            zip(*self._rows, strict=True) if self._rows else [()] * len(History.__struct_fields__)
        )
        return History(*(list(column) for column in columns))
