"""Results as server-sent events, read from the projection; an event's id is a position in it.

A position is, of each partition of each log, the offset that follows: `log/partition/offset`,
with commas between. It stands for the same place after a rebuild. Nothing is kept for a client:
the next rows are read when it has taken the last ones.
"""

import asyncio
import os
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from starlette.responses import Response

from api.errors import BadRequest, Unavailable
from api.tasks.sse import EventStream, encode
from streams.errors import StoreError
from streams.projection.reader import Reader, to_result

HEARTBEAT = 15.0  # seconds; proxies close what is silent for 30 to 60
POLL = 0.1  # seconds between two looks at the database's files
SETTLED = 2.0  # seconds within which a commit that is in the files is seen by readers
PAGE = 500  # rows
MOST_STREAMS = 500

Signature = tuple[tuple[int, int, int] | None, ...]  # of files: inode, size, time of change
Cursor = dict[tuple[int, int], int]  # (log, partition) -> the offset that follows
_CURSOR = re.compile(r"(\d{1,9}/\d{1,9}/\d{1,18})(,\d{1,9}/\d{1,9}/\d{1,18}){0,9999}")


def cursor(text: str | None) -> Cursor | None:
    """The position that an event's id tells; `0` is the beginning. Raises BadRequest."""
    if text is None or text == "0":
        return None if text is None else {}
    if not _CURSOR.fullmatch(text):
        raise BadRequest("Last-Event-ID is none of this service")
    parts = (place.split("/") for place in text.split(","))
    return {(int(log), int(partition)): int(offset) for log, partition, offset in parts}


def event_id(position: Mapping[tuple[int, int], int]) -> str:
    """A position as an event's id."""
    return ",".join(f"{log}/{p}/{offset}" for (log, p), offset in sorted(position.items()))


def _place(row: Mapping[str, Any]) -> str:
    return event_id({(row["log"], row["partition"]): row["offset"] + 1})


class Feed:
    """Streams of results out of one projection, until `stop`."""

    def __init__(self, database: Path, heartbeat: float = HEARTBEAT) -> None:
        self._database = database
        self._heartbeat = heartbeat
        self._files = database, database.with_name(database.name + "-wal")
        self._stopping = asyncio.Event()
        self._streams = 0

    def stop(self) -> None:
        """End every stream; to be called in the event loop."""
        self._stopping.set()

    def stream(self, events: AsyncIterator[bytes]) -> Response:
        """A response of these events; raises Unavailable where there are too many already."""
        if self._streams >= MOST_STREAMS:
            raise Unavailable(f"{MOST_STREAMS} streams are open already")
        return EventStream(events, self._counted())

    async def position(self, task_id: str) -> str | None:
        """The id of the event of a task's result, or None; raises Unavailable."""
        row = await self._read(lambda reader: reader.get(task_id))
        return None if row is None else _place(row)

    async def task(self, task_id: str, pending: bytes) -> AsyncIterator[bytes]:
        """`pending`, if there is no result yet, and the result."""
        told, spoken = False, time.monotonic()
        while True:
            seen = self._signature()
            row = await self._read(lambda reader: reader.get(task_id))
            if row is not None:
                yield encode("result", msgspec.json.encode(to_result(row)), _place(row))
                return
            if not told:
                told = True
                yield encode("pending", pending)
            async for beat in self._changed(seen, spoken):
                spoken = time.monotonic()
                yield beat

    async def results(self, begin: Cursor | None) -> AsyncIterator[bytes]:
        """Every result from a position on; None: from now on."""
        position = await self._read(Reader.positions) or {} if begin is None else begin
        yield b": results as they are stored\n\n"
        spoken = time.monotonic()
        while True:
            seen = self._signature()
            rows = await self._read(partial(_page, position=position)) or []
            for row in rows:
                position[row["log"], row["partition"]] = row["offset"] + 1
                data = msgspec.json.encode(to_result(row))
                yield encode("result", data, event_id(position))
            if rows:
                spoken = time.monotonic()
                continue
            async for beat in self._changed(seen, spoken):
                spoken = time.monotonic()
                yield beat

    async def _read(self, read: Callable[[Reader], Any]) -> Any:
        """What `read` finds, or None without a database; raises Unavailable."""

        def opened() -> Any:
            if not self._database.exists():
                return None
            with Reader(self._database) as reader:
                return read(reader)

        try:
            return await asyncio.to_thread(opened)
        except (StoreError, sqlite3.Error) as e:
            raise Unavailable("the results cannot be read at this moment") from e

    def _signature(self) -> Signature:
        """Another one when the database changed, or is another file."""
        return tuple(map(_stat, self._files))

    async def _changed(self, seen: Signature, spoken: float) -> AsyncIterator[bytes]:
        """Waits until there may be more than at `seen`; a comment where it is time for one.

        A commit is written to the files before readers see it, so what was written lately is
        looked at again.
        """
        await asyncio.sleep(POLL)
        while self._signature() == seen and not _recent(seen):
            if time.monotonic() > spoken + self._heartbeat:
                break
            await asyncio.sleep(POLL)
        if time.monotonic() > spoken + self._heartbeat:
            yield b": alive\n\n"

    @contextmanager
    def _counted(self) -> Iterator[asyncio.Event]:
        """Counts a stream while it is open; gives the event of its end."""
        self._streams += 1
        try:
            yield self._stopping
        finally:
            self._streams -= 1


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _recent(seen: Signature) -> bool:
    """Whether a file changed within the last SETTLED seconds."""
    latest = max((found[2] for found in seen if found), default=0)
    return time.time_ns() - latest < SETTLED * 1e9


def _page(reader: Reader, position: Cursor) -> list[dict[str, Any]]:
    """The next rows, at most PAGE of each partition."""
    return [
        row
        for (log, partition), end in sorted(reader.positions().items())
        if (first := position.get((log, partition), 0)) < end
        for row in reader.following(log, partition, first, PAGE)
    ]
