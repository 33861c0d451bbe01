"""uvicorn's fast HTTP protocol with what it has no limit for: slow and endless request heads.

The timer is armed only while a head is incomplete, so a request that comes at once pays a
comparison.
"""

import asyncio
from typing import Any, ClassVar

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.errors import ErrorBody

MAX_HEAD = 16_384  # bytes of a request's line and headers, as in uvicorn's own h11 protocol

REASONS = {
    400: "not an HTTP request",
    408: "the request's head did not come in time",
    431: f"the request's head is larger than {MAX_HEAD:,} bytes",
}


class HeadTooLarge(Exception):
    """The head of a request is above its limit."""


class LimitedProtocol(HttpToolsProtocol):
    """Closes a connection whose next request's head does not come within `seconds`.

    So it ends one that says nothing, dribbles, or goes on with a body after its answer.
    """

    seconds: ClassVar[float]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head = 0  # bytes since the last complete head
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; then see to it that an incomplete head is neither too large nor too old."""
        self._head += len(data)
        super().data_received(data)
        if self.transport.is_closing() or not self._awaits_head():
            return
        if self._head > MAX_HEAD and self._in_head:
            self.refuse(431)
        elif self._deadline is None:
            self._arm()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """The head is there; raises HeadTooLarge, which the parser turns into a refusal."""
        self._disarm()
        self._in_head, self._head = False, 0
        if sum(len(n) + len(v) for n, v in self.headers) + len(self.url) > MAX_HEAD:
            self._too_large = True
            raise HeadTooLarge
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Refuse what is no HTTP, as JSON like every other error."""
        self.refuse(431 if self._too_large else 400)

    def refuse(self, status: int) -> None:
        """Answer with `status` and close."""
        body = msgspec.json.encode(ErrorBody(REASONS[status]))
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            % len(body)
            + body
        )
        self.transport.close()

    _in_head = False
    _too_large = False

    def _awaits_head(self) -> bool:
        return self._in_head or self.cycle is None or self.cycle.response_complete

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.seconds, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self._in_head and (self.cycle is None or self.cycle.response_complete):
            self.refuse(408)
        elif self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def limited(limit: float) -> type[LimitedProtocol]:
    """The protocol with `limit` seconds for a head."""

    class Limited(LimitedProtocol):
        seconds = limit

    return Limited
