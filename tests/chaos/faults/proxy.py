"""A TCP proxy before the broker, to cut its connections or to swallow what it says.

The broker tells all clients to come by here (`--advertised`), so nobody gets around it.
"""

import asyncio
import contextlib
from typing import Self

CHUNK_BYTES = 1 << 16


class Proxy:
    """Passes bytes between clients and 127.0.0.1:`target`; an async context manager."""

    def __init__(self, port: int, target: int) -> None:
        self._port, self._target = port, target
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
        there = asyncio.create_task(_pump(reader, requests))
        back = asyncio.create_task(self._pump_back(task, answers, writer))
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
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self._silent:
                self.swallowed += len(data)
                self._deaf.add(task)
            else:
                writer.write(data)
                await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
