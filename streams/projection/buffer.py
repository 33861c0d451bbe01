"""Chunks that are read and not stored yet, between the consumer and the next transaction."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from streams.projection.blocks import Contents, read

# Of the buffer and of one transaction: the larger, the less each row costs (see the store).
MAX_RECORDS, MAX_BYTES = 64_000, 32_000_000
# After a transaction of BUSY_RECORDS more are on their way, so the next one waits up to
# GATHER_SECONDS for them; otherwise a row is stored at once.
BUSY_RECORDS, GATHER_SECONDS = 16_000, 0.25


class BufferedChunk(NamedTuple):
    """The contents of a chunk, its sizes, and the event that acknowledges it."""

    event: Any
    contents: Contents
    records: int
    bytes: int


class Load:
    """Chunks within the limits, and their sums; a single chunk may exceed them."""

    def __init__(self) -> None:
        self.chunks: deque[BufferedChunk] = deque()
        self.records = self._bytes = 0

    def has_room_for(self, new: BufferedChunk) -> bool:
        fits = self.records + new.records <= MAX_RECORDS and self._bytes + new.bytes <= MAX_BYTES
        return fits or not self.chunks

    def append(self, chunk: BufferedChunk) -> None:
        self.chunks.append(chunk)
        self.records += chunk.records
        self._bytes += chunk.bytes


class Buffer:
    """Chunks in order, within the limits. For one event loop."""

    def __init__(self) -> None:
        self._load = Load()
        self._changed = asyncio.Condition()
        self._full = False
        self._taken = 0

    def __bool__(self) -> bool:
        return bool(self._load.chunks)

    async def put(self, event: Any) -> None:
        """Read the chunk of an event and add it once there is room."""
        contents = read(event.value)
        event.value = None  # its records take more memory than what was read of them
        new = BufferedChunk(event, contents, contents.records, contents.bytes)
        async with self._changed:
            self._full = not self._load.has_room_for(new)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._load.has_room_for(new))
            self._full = False
            self._load.append(new)

    async def take(self) -> Sequence[BufferedChunk]:
        """All chunks, for one transaction; under load it first waits for the buffer to fill."""
        async with self._changed:
            if self._taken >= BUSY_RECORDS:
                full = self._changed.wait_for(lambda: self._full)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(full, GATHER_SECONDS)
            taken, self._load = self._load, Load()
            self._taken = taken.records
            self._changed.notify_all()
        return taken.chunks
