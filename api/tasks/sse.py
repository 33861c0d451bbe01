"""A response of server-sent events.

Source: the HTML Standard, 9.2 Server-sent events.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, aclosing, suppress
from typing import Literal

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.errors import Unavailable

MEDIA = "text/event-stream"
LAST_WORD = 1.0  # seconds for a client to take the end of a stream


class Event(msgspec.Struct, omit_defaults=True):
    """An event: `data` is JSON, `id` a position to go on from."""

    event: Literal["pending", "result"]
    data: str
    id: str | None = None


def encode(name: str, data: bytes, position: str | None = None) -> bytes:
    """An event as it is sent; `data` is JSON, in which there are no line ends."""
    head = f"event: {name}\n" + (f"id: {position}\n" if position else "")
    return head.encode() + b"data: " + data + b"\n\n"


class EventStream(Response):
    """Sends events until they end, the client is gone, or the service stops.

    `open_until` is entered while the stream is open; it gives what is set when all must end.
    """

    def __init__(
        self, events: AsyncIterator[bytes], open_until: AbstractContextManager[asyncio.Event]
    ) -> None:
        super().__init__(media_type=MEDIA, headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._open_until = open_until

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what comes."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] == "HEAD":  # nothing is ever written, so nothing would end it
            await send({"type": "http.response.body", "body": b""})
            return
        with self._open_until as stopping:
            ends = [
                asyncio.ensure_future(end)
                for end in (self._send(send), _until_gone(receive), stopping.wait())
            ]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
                await asyncio.gather(*ends, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD):
                await send({"type": "http.response.body", "body": b""})

    async def _send(self, send: Send) -> None:
        async with aclosing(self._events) as events:  # type: ignore[type-var]
            with suppress(Unavailable):  # the client connects again, and is told then
                async for event in events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
