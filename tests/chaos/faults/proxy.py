"""A TCP proxy in front of the broker, to cut connections or to discard the broker's replies.

The broker advertises the proxy's address (`--advertised`), so no client bypasses it.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self

import psutil

from tests.chaos.delivery.wire import Connection, Wire

CHUNK_BYTES = 1 << 16
LENGTH_BYTES = 4  # the head of a frame of Kafka's protocol: the length of the rest

Change = Callable[[bytes], bytes]
Hold = Callable[[int], Awaitable[None]]


class Isolation:
    """A process that the network cuts off from all brokers; several proxies may share it.

    Bytes that are under way in either direction arrive when it ends, as TCP sends them again. So a
    request of the process may reach the broker long after others have taken over its work.
    """

    def __init__(self) -> None:
        self._pid: Callable[[], int] | None = None
        self._inside: set[int] = set()  # the ports of the clients that are cut off
        self._outside: set[tuple[int, int]] = set()  # those that the process does not have
        self._open = asyncio.Event()
        self.held = 0  # bytes

    def begin(self, pid: Callable[[], int]) -> None:
        """Cut off the process that has this id at any time, which may change."""
        self._inside, self._outside = _ports(pid()), set()
        self._open.clear()
        self._pid = pid

    def end(self) -> None:
        """Let all bytes pass."""
        self._pid = None
        self._open.set()

    async def hold(self, port: int, size: int) -> None:
        """Wait as long as the process that has a client's port is cut off."""
        while self._pid is not None and self._is_inside(self._pid(), port):
            self.held += size
            await self._open.wait()

    def _is_inside(self, pid: int, port: int) -> bool:
        if port not in self._inside and (pid, port) not in self._outside:
            self._inside |= _ports(pid)
            if port not in self._inside:
                self._outside.add((pid, port))
        return port in self._inside


def _ports(pid: int) -> set[int]:
    """The local ports of a process's connections."""
    try:
        return {one.laddr.port for one in psutil.Process(pid).net_connections("tcp4")}
    except psutil.Error:  # it has just ended
        return set()


class Proxy:
    """Passes bytes between clients and 127.0.0.1:`target`; an async context manager.

    With a `wire` it parses them as frames of Kafka's protocol and passes them through it.
    """

    def __init__(
        self,
        port: int,
        target: int,
        wire: Wire | None = None,
        isolation: Isolation | None = None,
    ) -> None:
        self._port, self._target, self._wire = port, target, wire
        self._isolation = isolation or Isolation()
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
        port = writer.get_extra_info("peername")[1]
        hold = functools.partial(self._isolation.hold, port)
        sent = _parts(reader, hold, connection.request if connection else None)
        forward = asyncio.create_task(_pump(sent, requests))
        parts = _parts(replies, hold, self._changed_by(connection))
        backward = asyncio.create_task(self._pump_back(task, parts, writer))
        try:
            await asyncio.wait((forward, backward), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in (forward, backward):
                pump.cancel()
            await asyncio.gather(forward, backward, return_exceptions=True)
            if connection is not None:
                connection.close()
            requests.transport.abort()

    def _changed_by(self, connection: Connection | None) -> Change | None:
        """The change of replies; those that are discarded pass unparsed."""
        if connection is None:
            return None
        return lambda frame: frame if self._silent else connection.response(frame)

    async def _pump_back(
        self,
        task: asyncio.Task[None],
        parts: AsyncIterator[bytes],
        writer: asyncio.StreamWriter,
    ) -> None:
        async for data in parts:
            if self._silent:
                self.discarded += len(data)
                self._damaged.add(task)
            else:
                writer.write(data)
                await writer.drain()


async def _parts(
    reader: asyncio.StreamReader, hold: Hold, change: Change | None
) -> AsyncIterator[bytes]:
    """The bytes as they arrive; with a `change`, whole frames, each passed through it."""
    if change is None:
        while data := await reader.read(CHUNK_BYTES):
            await hold(len(data))
            yield data
        return
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
            frame = await reader.readexactly(length)
            await hold(length)
            frame = change(frame)
            yield len(frame).to_bytes(LENGTH_BYTES, "big") + frame


async def _pump(parts: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        async for data in parts:
            writer.write(data)
            await writer.drain()
