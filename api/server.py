"""uvicorn's fast HTTP protocol with what it has no limit for: heads, and connections.

The timer is armed only while a head is incomplete, so a request that comes at once pays a
comparison.
"""

import asyncio
import logging
import time
from typing import Any, ClassVar

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.errors import RETRY_AFTER, ErrorBody
from api.middleware import logging as logs
from api.middleware.stack import REQUEST_ID, SAFETY

MAX_HEAD = 16_384  # bytes of a request's line and headers, as in uvicorn's own h11 protocol
MOST_QUEUED = 16  # requests behind the one that is answered, while more is read
QUIET_SECONDS = 60.0
LINGER_SECONDS = 1.0  # for a client to read why its connection is closed

REASONS = {
    503: "too many connections are open",
    400: "not an HTTP request",
    408: "the request's head did not come in time",
    431: f"the request's head is larger than {MAX_HEAD:,} bytes",
}


logger = logging.getLogger(__name__)


class HeadTooLarge(Exception):
    """The head of a request is above its limit."""


class LimitedProtocol(HttpToolsProtocol):
    """Closes a connection whose next request's head does not come within `seconds`.

    So it ends one that says nothing, dribbles, or goes on with a body after its answer. Beyond
    `most` connections further ones are refused, while there are file descriptors to do so.
    """

    seconds: ClassVar[float]
    most: ClassVar[int]
    told: ClassVar[float] = -QUIET_SECONDS  # when it was logged that there are too many

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head = 0  # bytes of the head that is not complete
        self._apart = 0  # bytes since a body's last one: of chunks' extensions, or of trailers
        self._in_head = self._too_large = False
        self._running: Any = None  # the cycle that is answered, which `cycle` may be queued behind
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._tell_of_too_many()
            self.refuse(503)
        else:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline; tell who answers, as uvicorn tells only the last in the queue."""
        self._disarm()
        super().connection_lost(exc)
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Parse; then see to it that an incomplete head is neither too large nor too old."""
        if self._in_head:
            self._head += len(data)
        elif self.cycle is not None and self.cycle.more_body:
            self._head = 0  # what follows the body in these bytes is not counted, as it is no more
            self._apart += len(data)
        else:
            self._head, self._apart = len(data), 0
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._apart > MAX_HEAD or (self._in_head and self._head > MAX_HEAD):
            self.refuse(431)
        elif self._deadline is None and self._awaits_head():
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
        if self.pipeline and len(self.pipeline) < MOST_QUEUED:
            self.flow.resume_reading()  # or the end of the connection would not be seen

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """A part of the body came, which others count."""
        self._apart = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Refuse what is no HTTP, as JSON like every other error."""
        self.refuse(431 if self._too_large else 400)

    def refuse(self, status: int) -> None:
        """Answer with `status` and close; behind an answer that is on its way, close after that."""
        if self._running is not None and not self._running.response_complete:
            self._running.keep_alive = False
            self.pipeline.clear()
            self.flow.pause_reading()
            return
        body = msgspec.json.encode(ErrorBody(REASONS[status]))
        headers = [
            (b"content-type", b"application/json"),
            (b"connection", b"close"),
            (b"content-length", b"%d" % len(body)),
            (REQUEST_ID, logs.request_id(None).encode()),
            *SAFETY,
        ]
        if status == 503:
            headers.append((b"retry-after", b"%d" % RETRY_AFTER))
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + body)
        self._close()
        if (metrics := self.app_state.get("metrics")) is not None:
            metrics.refused(status)

    def _tell_of_too_many(self) -> None:
        kind, now = type(self), time.monotonic()
        if now - kind.told > QUIET_SECONDS:
            kind.told = now
            logger.warning("refused a connection: %d are open, the limit", self.most)

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
            self._close()

    def _close(self) -> None:
        self.transport.close()
        # With TLS that waits for a word from the client.
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)


def limited(limit: float, connections: int) -> type[LimitedProtocol]:
    """The protocol with `limit` seconds for a head, and so many connections at most."""

    class Limited(LimitedProtocol):
        seconds = limit
        most = connections

    return Limited
