"""A TCP proxy before the broker, to cut its connections or to swallow what it says.

The broker tells all clients to come by here (`--advertised`), so nobody gets around it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Self

from tests.chaos.delivery.wire import Dialogue, Wire

CHUNK_BYTES = 1 << 16
HEAD_BYTES = 4  # of a frame of Kafka's protocol: the length of the rest

Change = Callable[[bytes], bytes]


class Proxy:
    """Passes bytes between clients and 127.0.0.1:`target`; an async context manager.

    With a `wire` it takes them for frames of Kafka's protocol and shows them to it.
    """

    def __init__(self, port: int, target: int, wire: Wire | None = None) -> None:
        self._port, self._target, self._wire = port, target, wire
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._silent = False
        self._deaf: set[asyncio.Task[None]] = set()  # connections that lost bytes
        self.cut = self.swallowed = 0  # connections cut, bytes not passed on

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
        """Swallow all that the broker says from now on."""
        self._silent = True

    async def speak(self) -> None:
        """Pass on again; a connection that lost bytes cannot go on and is cut."""
        self._silent = False
        await self._cut(self._deaf)

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
            self._deaf.discard(task)
            writer.transport.abort()

    async def _pass(
        self,
        task: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        answers, requests = await asyncio.open_connection("127.0.0.1", self._target)
        dialogue = None if self._wire is None else Dialogue(self._wire)
        asked = _parts(reader, dialogue.request if dialogue else None)
        there = asyncio.create_task(_pump(asked, requests))
        back = asyncio.create_task(self._pump_back(task, answers, writer, dialogue))
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in (there, back):
                pump.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            requests.transport.abort()

    async def _pump_back(
        self,
        task: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        dialogue: Dialogue | None,
    ) -> None:
        def swallow_or_change(frame: bytes) -> bytes:
            return dialogue.response(frame) if dialogue and not self._silent else frame

        async for data in _parts(reader, swallow_or_change if dialogue else None):
            if self._silent:
                self.swallowed += len(data)
                self._deaf.add(task)
            else:
                writer.write(data)
                await writer.drain()


async def _parts(reader: asyncio.StreamReader, change: Change | None) -> AsyncIterator[bytes]:
    """What comes: with a `change` in whole frames, each changed by it."""
    if change is None:
        while data := await reader.read(CHUNK_BYTES):
            yield data
        return
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            length = int.from_bytes(await reader.readexactly(HEAD_BYTES), "big")
            frame = change(await reader.readexactly(length))
            yield len(frame).to_bytes(HEAD_BYTES, "big") + frame


async def _pump(parts: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        async for data in parts:
            writer.write(data)
            await writer.drain()
