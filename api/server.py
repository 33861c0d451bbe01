"""uvicorn's fast HTTP protocol with the limits that it lacks: on heads and on connections.

A timer runs only while a head is incomplete, so a request whose head comes in one piece pays for
one comparison.
"""

import asyncio
import logging
import time
from typing import Any, ClassVar

import msgspec
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.errors import RETRY_AFTER_SECONDS, ErrorBody
from api.middleware.logging import request_id
from api.middleware.stack import REQUEST_ID_HEADER, SAFETY

MAX_HEAD_BYTES = 16_384  # of a request's line and headers, as in uvicorn's own h11 protocol
MAX_PIPELINED = 16  # requests behind the current one, above which no more is read
WARNING_SECONDS = 60.0  # from one warning of too many connections to the next
LINGER_SECONDS = 1.0  # for a client to read why its connection is closed

REASONS = {
    503: "too many connections are open",
    400: "not an HTTP request",
    408: "the request's head did not come in time",
    431: f"the request's head is larger than {MAX_HEAD_BYTES:,} bytes",
}


logger = logging.getLogger(__name__)


class HeadTooLarge(Exception):
    """The head of a request is above its limit."""


class LimitedProtocol(HttpToolsProtocol):
    """Closes a connection if the next request's head does not come within `head_seconds`.

    This ends a connection that is silent, that sends a few bytes at a time, or that goes on with a
    body after the response. Connections above `max_connections` get 503.
    """

    head_seconds: ClassVar[float]
    max_connections: ClassVar[int]
    warned_at: ClassVar[float] = -WARNING_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head = 0  # bytes of the head that is not complete
        self._overhead = 0  # bytes since the body's last one: extensions of chunks, or trailers
        self._in_head = self._too_large = False
        self._running: Any = None  # the cycle that runs; `cycle` may be queued behind it
        self._deadline: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Also refuses a connection above the limit, and starts the timer of the first head."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._warn_of_too_many()
            self.refuse(503)
        else:
            self._start_timer()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Also ends the request that runs; uvicorn ends only the last one in the queue."""
        self._stop_timer()
        super().connection_lost(exc)
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    @override
    def data_received(self, data: bytes) -> None:
        """Also checks the size of an incomplete head, and starts its timer."""
        if self._in_head:
            self._head += len(data)
        elif self.cycle is not None and self.cycle.more_body:
            self._head = 0  # these bytes end a body; the rest of them is not counted
            self._overhead += len(data)
        else:
            self._head, self._overhead = len(data), 0
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._overhead > MAX_HEAD_BYTES or (self._in_head and self._head > MAX_HEAD_BYTES):
            self.refuse(431)
        elif self._deadline is None and self._awaits_head():
            self._start_timer()

    @override
    def on_message_begin(self) -> None:
        """Also notes that a head begins."""
        super().on_message_begin()
        self._in_head = True

    @override
    def on_headers_complete(self) -> None:
        """Also stops the timer and checks the size of the head.

        Raises HeadTooLarge, for which the parser calls `send_400_response`. Reading goes on while
        few requests are queued, or a disconnect would not be seen; uvicorn stops at the first.
        """
        self._stop_timer()
        self._in_head, self._head = False, 0
        if sum(len(n) + len(v) for n, v in self.headers) + len(self.url) > MAX_HEAD_BYTES:
            self._too_large = True
            raise HeadTooLarge
        super().on_headers_complete()
        if self.pipeline and len(self.pipeline) < MAX_PIPELINED:
            self.flow.resume_reading()

    @override
    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Also notes which request runs."""
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    @override
    def on_body(self, body: bytes) -> None:
        """Also resets the count of bytes that are not body; `api/body.py` counts the body."""
        self._overhead = 0
        super().on_body(body)

    @override
    def send_400_response(self, msg: str) -> None:
        """Sends JSON like every other error, and 431 for a head that is too large."""
        self.refuse(431 if self._too_large else 400)

    def refuse(self, status: int) -> None:
        """Send an error and close; if a response is being sent, close after it instead."""
        if self._running is not None and not self._running.response_complete:
            self._running.keep_alive = False
            self.pipeline.clear()
            self.flow.pause_reading()
            return
        self.transport.write(_response(status))
        self._close()
        if (metrics := self.app_state.get("metrics")) is not None:
            metrics.refused(status)

    def _warn_of_too_many(self) -> None:
        kind, now = type(self), time.monotonic()
        if now - kind.warned_at > WARNING_SECONDS:
            kind.warned_at = now
            logger.warning("refused a connection: %d are open, the limit", self.max_connections)

    def _awaits_head(self) -> bool:
        return self._in_head or not self._is_answering()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_timer(self) -> None:
        self._deadline = self.loop.call_later(self.head_seconds, self._expire)

    def _stop_timer(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self.transport.is_closing() or self._is_answering():
            return
        if self._in_head:
            self.refuse(408)
        else:
            self._close()

    def _close(self) -> None:
        self.transport.close()
        # With TLS, `close` waits for the client's own close.
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)


def limited(seconds: float, connections: int) -> type[LimitedProtocol]:
    """The protocol with `seconds` for a head and a maximum of `connections`."""

    class Limited(LimitedProtocol):
        head_seconds = seconds
        max_connections = connections

    return Limited


def _response(status: int) -> bytes:
    body = msgspec.json.encode(ErrorBody(REASONS[status]))
    headers = [
        (b"content-type", b"application/json"),
        (b"connection", b"close"),
        (b"content-length", b"%d" % len(body)),
        (REQUEST_ID_HEADER, request_id().encode()),
        *SAFETY,
    ]
    if status == 503:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_SECONDS))
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return STATUS_LINE[status] + lines + b"\r\n" + body
