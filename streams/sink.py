"""The sink: `results` in, rows in SQLite, offsets in the same transaction.

Run one per database file: `faust -A streams.sink worker -l info`.
"""

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from infra import config
from infra.broker.log_id import LogIds, is_same_log
from infra.config import Settings
from infra.process.status import State
from streams import application
from streams.application import Application
from streams.errors import StoreBusy, StoreError
from streams.monitoring.sink_metrics import SinkMetrics
from streams.projection.blocks import Contents
from streams.projection.buffer import Buffer, BufferedChunk
from streams.projection.lock import WriterLock
from streams.projection.store import Applied, Store
from streams.projection.typed_rows import SHORT_STEP_BLOCKS, STEP_BLOCKS

STANDBY_POLL_SECONDS = 0.5
WATCH_SECONDS = 1.0
# After a large transaction so long, rows are left until later: more of them may follow.
QUIET_SECONDS = 1.0
ROWS_REPORT_SECONDS = 10.0
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 5.0
SAFE_SQLITE = (3, 51, 3)

logger = logging.getLogger("petalstream")

T = TypeVar("T")


class Projection:
    """Stores chunks in order and acknowledges them once they are committed."""

    _store: Store  # from `open` on
    _watching: asyncio.Task[None]
    _adding: asyncio.Task[None]

    def __init__(self, settings: Settings, logs: LogIds) -> None:
        self.state: State = "starting"
        self.model: str | None = None
        self.models: list[str] = []
        self.model_since = 0.0
        self.loading: str | None = None
        self.unavailable: list[str] = []
        self.reason: str | None = None  # why it waits, or what a person should know
        self.metrics = SinkMetrics(settings.database)
        self._obstacle: str | None = None  # why it waits
        self._settings = settings
        self._logs = logs
        self._lock = WriterLock(settings.database)
        self._buffer = Buffer()
        self._writing: asyncio.Task[None] | None = None
        self._stored_at = -QUIET_SECONDS
        self._lacks_results = True  # as far as it is known

    async def open(self, _cluster: str) -> None:
        """Open the database; raises StoreError.

        While another sink writes the database, this one stands by, to take over when that ends.
        While the database is locked or the disk is full, it waits.
        """
        if not await self._when_possible(self._lock.try_acquire, "waiting"):
            self.state = "standby"
            logger.info("standing by: another sink writes %s", self._settings.database)
            while not await self._when_possible(self._lock.try_acquire, "waiting"):
                self.state = "standby"
                await asyncio.sleep(STANDBY_POLL_SECONDS)
        if sqlite3.sqlite_version_info < SAFE_SQLITE:
            # sqlite.org/wal.html#walresetbug
            logger.warning(
                "SQLite %s can corrupt a database that two processes write (fixed in 3.51.3); "
                "only the sink may write %s", sqlite3.sqlite_version, self._settings.database
            )  # fmt: skip
        log = await self._logs.confirm(self._settings.names.results)
        self._store = await self._when_possible(
            lambda: Store(self._settings.database, log), "waiting"
        )
        self._watching = asyncio.create_task(self._watch())
        self._adding = asyncio.create_task(self._add_rows())
        self.state = "ready"

    def reload(self) -> None:
        """Do nothing: a sink has no model."""

    async def close(self) -> None:
        """Fold the write-ahead log into the file, after all chunks are acknowledged."""
        if self.state == "ready":
            for task in (self._watching, self._adding):
                task.cancel()
            await asyncio.to_thread(self._store.close)

    async def _watch(self) -> None:
        """End the process when the file is moved or deleted: its rows would be lost to readers."""
        while self._store.is_in_place():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(WATCH_SECONDS)
        application.end(
            f"{self._settings.database} was moved or deleted; a restarted sink rebuilds it",
            os.EX_TEMPFAIL,
        )

    async def _add_rows(self) -> None:
        """Add the rows that the view `result` lacks: all when there is nothing else to store, and
        else some of them each second, so that the view never stands still.
        """
        reported = time.monotonic() - ROWS_REPORT_SECONDS
        try:
            while True:
                await asyncio.sleep(QUIET_SECONDS)
                if self._lacks_results and self._obstacle is None:
                    self.reason = await self._unanswered()
                while await asyncio.to_thread(self._store.add_rows, self._step()):
                    if time.monotonic() - reported > ROWS_REPORT_SECONDS:
                        reported = time.monotonic()
                        left = await asyncio.to_thread(self._store.rows_left)
                        if left:
                            logger.warning("%d stored results are not in the view yet", left)
                    if self._buffer:
                        break
        except StoreBusy:
            self._adding = asyncio.create_task(self._add_rows())
        except StoreError as e:
            application.end(str(e), os.EX_CONFIG)
        except Exception as e:  # the outermost edge
            application.fail("adding rows", e)

    def _step(self) -> int:
        """How many blocks may be added at once: what is to be stored waits meanwhile."""
        is_quiet = not self._buffer and time.monotonic() - self._stored_at > QUIET_SECONDS
        return STEP_BLOCKS if is_quiet else SHORT_STEP_BLOCKS

    async def _unanswered(self) -> str | None:
        """What a person should know of results that cannot be read, or were deleted unread."""
        unread = await asyncio.to_thread(self._store.deleted_unread)
        count = await asyncio.to_thread(self._store.unanswered)
        self._lacks_results = count > 0  # a readable one may follow
        texts = []
        if unread:
            texts.append(f"results that the broker deleted before they were stored: {unread}")
        if count:
            texts.append(f"tasks without a result that can be read: {count}")
        return f"{', '.join(texts)} (petal verify names them)" if texts else None

    def follow(self, log: str) -> str:
        """See `streams.transport.driver.Projection`."""
        return self._store.follow(log)

    def follow_next(self, log: str) -> str:
        """See `streams.transport.driver.Projection`."""
        return self._store.follow_next(log)

    def next_offsets(self) -> dict[int, int]:
        """The offset from which to read each partition that has stored records."""
        return self._store.next_offsets()

    async def handle(self, event: Any) -> None:
        """Accept one chunk; its ack follows when its rows are committed."""
        await self._buffer.put(event)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        """Store the buffer's chunks, one transaction after the other, until it is empty."""
        try:
            while self._buffer:
                chunks = await self._buffer.take()
                await self._store_all(await self._of_this_log(chunks))
                for chunk in chunks:  # Kafka's offset is only a hint here
                    chunk.event.ack()
        except StoreError as e:
            application.end(str(e), os.EX_CONFIG)
        except Exception as e:  # the outermost edge: without an ack the chunks are reread
            application.fail("storing results", e)

    async def _of_this_log(self, chunks: Sequence[BufferedChunk]) -> list[Contents]:
        """The contents that are sure to be of the log that they name.

        A log may have been replaced since the last look, and what was read then may be of the new
        one; it is read again from its beginning.
        """
        log = await self._logs.confirm(self._settings.names.results)
        return [c for chunk in chunks if is_same_log((c := chunk.contents).log.split("#")[0], log)]

    async def _store_all(self, parts: Sequence[Contents]) -> None:
        """One transaction. The transport stops fetching while it waits."""
        applied = await self._when_possible(lambda: self._apply(parts), "paused")
        self.state, self._stored_at = "ready", time.monotonic()
        self._lacks_results |= applied.unreadable > 0 or applied.unread > 0
        if applied.conflicts:
            logger.warning("id_conflict: %d results for ids of other tasks", applied.conflicts)

    def _apply(self, parts: Sequence[Contents]) -> Applied:
        begun = time.perf_counter()
        applied = self._store.apply_all(parts)
        self.metrics.count(applied, time.perf_counter() - begun)
        return applied

    async def _when_possible(self, attempt: Callable[[], T], waiting: State) -> T:
        """The value of `attempt`, repeated while the database is locked or the disk is full.

        The state is `waiting` meanwhile. Each reason is logged once.
        """
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            try:
                value = await asyncio.to_thread(attempt)
            except StoreBusy as e:
                self._wait_for(str(e), waiting)
            else:
                if self._obstacle is not None:
                    logger.warning("the database can be written again")
                    self._obstacle = self.reason = None
                return value
            await asyncio.sleep(backoff)
            backoff = min(MAX_BACKOFF_SECONDS, backoff * 2)

    def _wait_for(self, reason: str, waiting: State) -> None:
        if reason != self._obstacle:
            logger.error("the database cannot be written, the sink waits: %s", reason)
        self._obstacle, self.reason, self.state = reason, reason, waiting


def create_app(settings: Settings) -> Application:
    """The sink's Faust app; connects to nothing and opens no file."""
    logs = LogIds(settings)
    projection = Projection(settings, logs)
    app = Application(settings.names.sink_group, settings, projection, logs, projection)
    results = app.topic(
        settings.names.results, value_type=bytes, value_serializer="raw", key_serializer="raw"
    )

    @app.agent(results, name="project", concurrency=1)
    async def project(stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                await projection.handle(event)
            except Exception as e:  # Faust would skip the chunk, which must be reread
                application.fail("storing results", e)

    @app.on_before_shutdown.connect
    async def close(_app: Any, **_: Any) -> None:
        await projection.close()

    return app


app = create_app(config.load_or_exit())
