"""Results as server-sent events, read from the projection; an event's id is a position in it.

It names the same place after a rebuild (`api.tasks.cursor`). The service keeps nothing for a
client: it reads the next rows when the client has taken the last ones.
"""

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from starlette.responses import Response

from api.errors import Stopping, Unavailable
from api.tasks.cursor import Cursor, LogNames, event_id
from api.tasks.sse import encode, event_stream
from streams.errors import NoProjection, StoreError
from streams.projection.reader import Reader, to_result

HEARTBEAT_SECONDS = 15.0  # proxies close a connection that is silent for 30 to 60
POLL_SECONDS = 0.1  # from one look at the database's files to the next
SETTLE_SECONDS = 2.0  # within which readers see a commit that is in the files
MAX_PAGE_ROWS = 500
MAX_STREAMS = 500

Signature = tuple[tuple[int, int, int] | None, ...]  # of files: inode, size, time of change
Events = AsyncGenerator[bytes, None]

logger = logging.getLogger(__name__)


def read_projection(database: Path, read: Callable[[Reader], Any]) -> Any:
    """The value of `read`, or None without a database; raises Unavailable.

    Opens the database for each call, so a database that was rebuilt is seen at once.
    """
    try:
        with Reader(database) as reader:
            return read(reader)
    except NoProjection:
        return None
    except (StoreError, sqlite3.Error) as e:
        logger.warning("cannot read results: %s", e)
        raise Unavailable("the results cannot be read at this moment") from e


class Feed:
    """Streams of results from one projection, until `stop`.

    `is_own`: other replicas of the service have others, in which event ids must mean the same.
    """

    def __init__(
        self, database: Path, heartbeat: float = HEARTBEAT_SECONDS, is_own: bool = False
    ) -> None:
        self._database = database
        self._is_own = is_own
        self._heartbeat = heartbeat
        self._files = database, database.with_name(database.name + "-wal")
        self._stopping = False
        self._streams = 0

    def stop(self) -> None:
        """End every stream within POLL_SECONDS."""
        self._stopping = True

    def stream(self, events: Events) -> Response:
        """A response of these events; raises Unavailable above MAX_STREAMS or after `stop`."""
        if self._stopping:
            raise Stopping
        if self._streams >= MAX_STREAMS:
            raise Unavailable(f"{MAX_STREAMS} streams are open already")
        return event_stream(self._counted(events), self._heartbeat)

    async def has_seen(self, task_id: str, seen: str) -> bool:
        """Whether an event's id is that of a task's result; raises Unavailable."""
        found = await self._read(partial(self._find, task_id))
        if found is None:
            return False
        row, names = found
        return bool(names.is_at(seen, row["log"], row["partition"], row["offset"] + 1))

    async def task(self, task_id: str, pending: bytes) -> Events:
        """Yield `pending`, if there is no result yet, and then the result."""
        is_first = True
        while not self._stopping:
            seen = self._signature()
            found = await self._read(partial(self._find, task_id))
            if found is not None:
                row, names = found
                place = {(names.name(row["log"]), row["partition"]): row["offset"] + 1}
                yield encode("result", msgspec.json.encode(to_result(row)), event_id(place))
                return
            if is_first:
                is_first = False
                yield encode("pending", pending)
            await self._changed(seen)

    async def results(self, begin: Cursor | None) -> Events:
        """Yield every result from a position on; None: from now on."""
        position = await self._read(self._end) or {} if begin is None else begin
        yield b": results as they are stored\n\n"
        while not self._stopping:
            seen = self._signature()
            rows = await self._read(partial(self._page, position)) or []
            for place, row in rows:
                position[place] = row["offset"] + 1
                data = msgspec.json.encode(to_result(row))
                yield encode("result", data, event_id(position))
            if not rows:
                await self._changed(seen)

    def _names(self, reader: Reader) -> LogNames:
        return LogNames(reader.logs(), self._is_own)

    def _find(self, task_id: str, reader: Reader) -> tuple[dict[str, Any], LogNames] | None:
        row = reader.get(task_id)
        return None if row is None else (row, self._names(reader))

    def _end(self, reader: Reader) -> Cursor:
        names = self._names(reader)
        return {(names.name(log), p): end for (log, p), end in reader.positions().items()}

    def _page(self, position: Cursor, reader: Reader) -> list[tuple[tuple[str, int], Any]]:
        """The next rows with their places, at most MAX_PAGE_ROWS of each partition."""
        names = self._names(reader)
        names.rename(position)
        return [
            (place, row)
            for (log, partition), end in sorted(reader.positions().items())
            if (first := position.get(place := (names.name(log), partition), 0)) < end
            for row in reader.following(log, partition, first, MAX_PAGE_ROWS)
        ]

    async def _counted(self, events: Events) -> Events:
        """Count a stream while it is open. It ends if the database is away: the client reconnects,
        and then gets the error."""
        self._streams += 1
        try:
            async with aclosing(events):
                with suppress(Unavailable):
                    async for event in events:
                        yield event
        finally:
            self._streams -= 1

    async def _read(self, read: Callable[[Reader], Any]) -> Any:
        return await asyncio.to_thread(read_projection, self._database, read)

    def _signature(self) -> Signature:
        """Changes when the database is written or replaced."""
        return tuple(map(_stat, self._files))

    async def _changed(self, seen: Signature) -> None:
        """Wait until there may be more than at `seen`, or until `stop`.

        A commit is in the files before readers see it, so a file that changed lately counts as
        changed.
        """
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if self._stopping or self._signature() != seen or _recent(seen):
                return


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _recent(seen: Signature) -> bool:
    """Whether a file changed within the last SETTLE_SECONDS."""
    latest = max((found[2] for found in seen if found), default=0)
    return time.time_ns() - latest < SETTLE_SECONDS * 1e9
