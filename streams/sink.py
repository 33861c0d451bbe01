"""The sink: `results` in, rows in SQLite, offsets in the same transaction.

Run one per database file: `faust -A streams.sink worker -l info`.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from infra import config
from infra.config import Settings
from infra.process.status import State
from infra.topics import RESULTS, SINK_GROUP
from streams import application
from streams.projection.blocks import Contents, read
from streams.projection.lock import WriterLock
from streams.projection.store import Applied, Store

STANDBY_POLL_SECONDS = 0.5
WATCH_SECONDS = 1.0
FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 5.0
# What waits, and what one transaction takes: the more, the less each row costs (see the store).
MOST_RECORDS, MOST_BYTES = 64_000, 32_000_000
# Where a transaction had as many as BUSY_RECORDS, more are on their way, and the next one waits
# a little for them; otherwise a row is stored at once.
BUSY_RECORDS, GATHER_SECONDS = 16_000, 0.25
SAFE_SQLITE = (3, 51, 3)

logger = logging.getLogger("petalstream")


def is_passing(error: sqlite3.OperationalError) -> bool:
    """Whether an error of SQLite may end by itself: a lock, a full disk, an I/O error."""
    # The lower byte is the kind; the rest tells more, such as SQLITE_IOERR_WRITE.
    return error.sqlite_errorcode & 0xFF in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
    )


class Waiting(NamedTuple):
    """A chunk that is read and not stored yet."""

    event: Any
    contents: Contents
    records: int
    bytes: int


class Load:
    """Chunks within limits, and their sums; a chunk that is larger than all room fits in alone."""

    def __init__(self) -> None:
        self.chunks: deque[Waiting] = deque()
        self.records = self._bytes = 0

    def has_room_for(self, new: Waiting) -> bool:
        within = (
            self.records + new.records <= MOST_RECORDS and self._bytes + new.bytes <= MOST_BYTES
        )
        return within or not self.chunks

    def append(self, chunk: Waiting) -> None:
        self.chunks.append(chunk)
        self.records += chunk.records
        self._bytes += chunk.bytes


class Backlog:
    """Chunks that wait, in order and bounded. For one event loop."""

    def __init__(self) -> None:
        self._waiting = Load()
        self._changed = asyncio.Condition()
        self._full = False
        self._taken = 0

    def __bool__(self) -> bool:
        return bool(self._waiting.chunks)

    async def put(self, event: Any) -> None:
        """Read a chunk and add it once there is room."""
        contents = read(event.value)
        event.value = None  # its records take more memory than what was read of them
        new = Waiting(event, contents, contents.records, contents.bytes)
        async with self._changed:
            self._full = not self._waiting.has_room_for(new)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._waiting.has_room_for(new))
            self._full = False
            self._waiting.append(new)

    async def take(self) -> Sequence[Waiting]:
        """All that waits, for one transaction; while much comes, not before there is much."""
        async with self._changed:
            if self._taken >= BUSY_RECORDS:
                full = self._changed.wait_for(lambda: self._full)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(full, GATHER_SECONDS)
            taken, self._waiting = self._waiting, Load()
            self._taken = taken.records
            self._changed.notify_all()
        return taken.chunks


class Projection:
    """The store of this process, opened once the broker's cluster id is known."""

    def __init__(self, settings: Settings) -> None:
        self.state: State = "starting"
        self.model: str | None = None
        self._settings = settings
        self._lock = WriterLock(settings.database)
        self._waiting = Backlog()
        self._writing: asyncio.Task[None] | None = None

    async def open(self, cluster: str) -> None:
        """Open the database for the log of `cluster`; raises StoreError.

        While another sink writes it, stand by: this one takes over when that one ends.
        """
        if not self._lock.try_acquire():
            self.state = "standby"
            logger.info("standing by: another sink writes %s", self._settings.database)
            while not self._lock.try_acquire():  # noqa: ASYNC110 - the lock is another process's
                await asyncio.sleep(STANDBY_POLL_SECONDS)
        if sqlite3.sqlite_version_info < SAFE_SQLITE:
            # sqlite.org/wal.html#walresetbug
            logger.warning(
                "SQLite %s can corrupt a database that two processes write (mended in 3.51.3); "
                "let nothing but the sink write %s", sqlite3.sqlite_version, self._settings.database
            )  # fmt: skip
        self._store = Store(self._settings.database, cluster)
        self._watching = asyncio.create_task(self._watch())
        self.state = "ready"

    async def _watch(self) -> None:
        """End once the file is moved or deleted: nobody would see what is written to it."""
        while self._store.is_in_place():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(WATCH_SECONDS)
        application.end(
            f"{self._settings.database} was moved or deleted; a sink that starts makes it anew",
            os.EX_TEMPFAIL,
        )

    def next_offsets(self) -> dict[int, int]:
        """Where each partition is to be read from."""
        return self._store.next_offsets()

    async def handle(self, event: Any) -> None:
        """Take one chunk. It is acknowledged when its rows are committed."""
        await self._waiting.put(event)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        """Store whatever waits, as much as fits into one transaction, until nothing waits."""
        try:
            while self._waiting:
                chunks = await self._waiting.take()
                await self._store_all([chunk.contents for chunk in chunks])
                for chunk in chunks:  # Kafka's offset is only a hint here
                    chunk.event.ack()
        except Exception as e:  # the outermost edge: without an ack the chunks are read again
            application.fail("storing results", e)

    async def _store_all(self, parts: list[Contents]) -> None:
        """One transaction. While the database is locked or has no room nothing is skipped:
        the same chunks are tried again, and the transport stops fetching meanwhile."""
        backoff = FIRST_BACKOFF
        while True:
            try:
                applied: Applied = await application.off_loop(self._store.apply_all, parts)
                break
            except sqlite3.OperationalError as e:
                if not is_passing(e):
                    raise
                self.state = "paused"
                logger.error("the database cannot be written (%s); again in %g s", e, backoff)
                await asyncio.sleep(backoff)
                backoff = min(LONGEST_BACKOFF, backoff * 2)
        if backoff > FIRST_BACKOFF:
            self.state = "ready"
            logger.warning("the database can be written again")
        if applied.conflicts:
            logger.warning("id_conflict: %d answers to ids of other tasks", applied.conflicts)


def create_app(settings: Settings) -> application.Application:
    """The sink's Faust app; connects to nothing and opens no file."""
    projection = Projection(settings)
    app = application.create(
        SINK_GROUP, settings, projection, stored_offsets=projection.next_offsets
    )
    results = app.topic(RESULTS, value_type=bytes, value_serializer="raw", key_serializer="raw")

    @app.agent(results, name="project", concurrency=1)
    async def project(stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                await projection.handle(event)
            except Exception as e:  # Faust would go on past the chunk; it must be read again
                application.fail("storing results", e)

    return app


app = create_app(config.load_or_exit())
