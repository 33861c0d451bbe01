"""A TCP proxy in front of the broker, to cut connections or to discard the broker's replies.

The broker advertises the proxy's address (`--advertised`), so no client bypasses it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Self

from tests.chaos.delivery.wire import Connection, Wire

CHUNK_BYTES = 1 << 16
LENGTH_BYTES = 4  # the head of a frame of Kafka's protocol: the length of the rest

Change = Callable[[bytes], bytes]


class Proxy:
    """Passes bytes between clients and 127.0.0.1:`target`; an async context manager.

    With a `wire` it parses them as frames of Kafka's protocol and passes them through it.
    """

    def __init__(self, port: int, target: int, wire: Wire | None = None) -> None:
        self._port, self._target, self._wire = port, target, wire
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._silent = False
        self._damaged: set[asyncio.Task[None]] = set()  # connections that lost bytes
        self.cut = self.discarded = 0  # connections, bytes

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()

    async def listen(self) -> None:
        """Accept connections."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def refuse(self) -> None:
        """Cut all connections and accept none; `listen` heals."""
        if self._server is not None:
            self._server.close()
        await self._cut(self._connections)

    def silence(self) -> None:
        """Discard all bytes from the broker from now on."""
        self._silent = True

    async def resume(self) -> None:
        """Pass bytes on; cut the connections that lost bytes, as they cannot continue."""
        self._silent = False
        await self._cut(self._damaged)

    async def _cut(self, connections: set[asyncio.Task[None]]) -> None:
        victims = list(connections)
        for task in victims:
            task.cancel()
        await asyncio.gather(*victims, return_exceptions=True)
        self.cut += len(victims)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._pass(task, reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # cut, or the broker is away: the client sees its connection end
        finally:
            self._connections.discard(task)
            self._damaged.discard(task)
            writer.transport.abort()

    async def _pass(
        self,
        task: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        replies, requests = await asyncio.open_connection("127.0.0.1", self._target)
        connection = None if self._wire is None else Connection(self._wire)
        sent = _parts(reader, connection.request if connection else None)
        forward = asyncio.create_task(_pump(sent, requests))
        backward = asyncio.create_task(self._pump_back(task, replies, writer, connection))
        try:
            await asyncio.wait((forward, backward), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in (forward, backward):
                pump.cancel()
            await asyncio.gather(forward, backward, return_exceptions=True)
            requests.transport.abort()

    async def _pump_back(
        self,
        task: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: Connection | None,
    ) -> None:
        def change(frame: bytes) -> bytes:
            return connection.response(frame) if connection and not self._silent else frame

        async for data in _parts(reader, change if connection else None):
            if self._silent:
                self.discarded += len(data)
                self._damaged.add(task)
            else:
                writer.write(data)
                await writer.drain()


async def _parts(reader: asyncio.StreamReader, change: Change | None) -> AsyncIterator[bytes]:
    """The bytes as they arrive; with a `change`, whole frames, each passed through it."""
    if change is None:
        while data := await reader.read(CHUNK_BYTES):
            yield data
        return
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
            frame = change(await reader.readexactly(length))
            yield len(frame).to_bytes(LENGTH_BYTES, "big") + frame


async def _pump(parts: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        async for data in parts:
            writer.write(data)
            await writer.drain()
