"""The sink: `results` in, rows in SQLite, offsets in the same transaction.

Run one per database file: `faust -A streams.sink worker -l info`.
"""

import asyncio
import logging
import os
import sqlite3
from collections.abc import Sequence
from typing import Any

from infra import config
from infra.broker.log_id import LogIds, is_same_log
from infra.config import Settings
from infra.process.status import State
from infra.topics import RESULTS, SINK_GROUP
from streams import application
from streams.application import Application
from streams.projection.blocks import Contents
from streams.projection.buffer import Buffer, BufferedChunk
from streams.projection.lock import WriterLock
from streams.projection.store import Applied, Store

STANDBY_POLL_SECONDS = 0.5
WATCH_SECONDS = 1.0
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 5.0
SAFE_SQLITE = (3, 51, 3)

logger = logging.getLogger("petalstream")


def is_transient(error: sqlite3.OperationalError) -> bool:
    """Whether an error of SQLite may end by itself: a lock, a full disk, an I/O error."""
    # The lower byte is the kind; the rest is its detail, such as SQLITE_IOERR_WRITE.
    return error.sqlite_errorcode & 0xFF in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
    )


class Projection:
    """Stores chunks in order and acknowledges them once they are committed."""

    _store: Store  # from `open` on
    _watching: asyncio.Task[None]

    def __init__(self, settings: Settings, logs: LogIds) -> None:
        self.state: State = "starting"
        self.model: str | None = None
        self._settings = settings
        self._logs = logs
        self._lock = WriterLock(settings.database)
        self._buffer = Buffer()
        self._writing: asyncio.Task[None] | None = None

    async def open(self, _cluster: str) -> None:
        """Open the database; raises StoreError.

        While another sink writes the database, this one stands by, to take over when that ends.
        """
        if not self._lock.try_acquire():
            self.state = "standby"
            logger.info("standing by: another sink writes %s", self._settings.database)
            while not self._lock.try_acquire():  # noqa: ASYNC110 - the lock is another process's
                await asyncio.sleep(STANDBY_POLL_SECONDS)
        if sqlite3.sqlite_version_info < SAFE_SQLITE:
            # sqlite.org/wal.html#walresetbug
            logger.warning(
                "SQLite %s can corrupt a database that two processes write (fixed in 3.51.3); "
                "only the sink may write %s", sqlite3.sqlite_version, self._settings.database
            )  # fmt: skip
        self._store = Store(self._settings.database, await self._logs.confirm(RESULTS))
        self._watching = asyncio.create_task(self._watch())
        self.state = "ready"

    async def _watch(self) -> None:
        """End the process when the file is moved or deleted: its rows would be lost to readers."""
        while self._store.is_in_place():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(WATCH_SECONDS)
        application.end(
            f"{self._settings.database} was moved or deleted; a restarted sink rebuilds it",
            os.EX_TEMPFAIL,
        )

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
        except Exception as e:  # the outermost edge: without an ack the chunks are reread
            application.fail("storing results", e)

    async def _of_this_log(self, chunks: Sequence[BufferedChunk]) -> list[Contents]:
        """The contents that are sure to be of the log that they name.

        A log may have been replaced since the last look, and what was read then may be of the new
        one; it is read again from its beginning.
        """
        log = await self._logs.confirm(RESULTS)
        return [c for chunk in chunks if is_same_log((c := chunk.contents).log.split("#")[0], log)]

    async def _store_all(self, parts: Sequence[Contents]) -> None:
        """One transaction. While the database is locked or full, retry the same chunks; the
        transport stops fetching meanwhile."""
        backoff = FIRST_BACKOFF_SECONDS
        while (applied := await self._try_store(parts, backoff)) is None:
            self.state = "paused"
            await asyncio.sleep(backoff)
            backoff = min(MAX_BACKOFF_SECONDS, backoff * 2)
        if self.state == "paused":
            self.state = "ready"
            logger.warning("the database can be written again")
        if applied.conflicts:
            logger.warning("id_conflict: %d results for ids of other tasks", applied.conflicts)

    async def _try_store(self, parts: Sequence[Contents], backoff: float) -> Applied | None:
        """None after a transient error."""
        try:
            return await asyncio.to_thread(self._store.apply_all, parts)
        except sqlite3.OperationalError as e:
            if not is_transient(e):
                raise
            logger.error("the database cannot be written (%s); retry in %g s", e, backoff)
            return None


def create_app(settings: Settings) -> Application:
    """The sink's Faust app; connects to nothing and opens no file."""
    logs = LogIds(settings)
    projection = Projection(settings, logs)
    app = Application(SINK_GROUP, settings, projection, logs, projection)
    results = app.topic(RESULTS, value_type=bytes, value_serializer="raw", key_serializer="raw")

    @app.agent(results, name="project", concurrency=1)
    async def project(stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                await projection.handle(event)
            except Exception as e:  # Faust would skip the chunk, which must be reread
                application.fail("storing results", e)

    return app


app = create_app(config.load_or_exit())
