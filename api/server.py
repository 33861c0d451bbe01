"""uvicorn's fast HTTP protocol with the limits that it lacks: on heads, queues and connections.

A timer runs only while a head is incomplete, so a request whose head comes in one piece pays for
one comparison. What a client sends ahead of its responses is parsed in small slices, because the
parser cannot stop between two requests: a slice bounds how many it adds to the queue.
"""

import asyncio
import logging
import time
from typing import Any, ClassVar

import httptools
import msgspec
from typing_extensions import override
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.body import FAULT
from api.errors import RETRY_AFTER_SECONDS, ErrorBody
from api.middleware.logging import request_id
from api.middleware.stack import REQUEST_ID_HEADER, SAFETY
from api.transport import LAST, LINGERS, LingeringTransport, Reading

MAX_HEAD_BYTES = 16_384  # of a request's line and headers, as in uvicorn's own h11 protocol
MAX_PIPELINED = 16  # requests behind the current one, above which no more is parsed
MAX_QUEUED_BYTES = 65_536  # of the bodies of these requests
MAX_WAITING_BYTES = 67_108_864  # of all connections together, queued or not yet parsed
SLICE_BYTES = 4096  # parsed at once; at 18 bytes each, 227 requests
REQUEST_BYTES = 4096  # of memory that a queued request takes without its body, about
WARNING_SECONDS = 60.0  # from one warning of too much to the next

NOT_HTTP, NOT_CHUNKED = "not an HTTP request", "the chunks of the body cannot be read"
TOO_LARGE = f"the request's head is larger than {MAX_HEAD_BYTES:,} bytes"
TOO_MANY = "too many connections are open"
TOO_SLOW = "the request's head did not come in time"

logger = logging.getLogger(__name__)


class BadHead(Exception):
    """A head that is refused, with a status and a sentence."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class LimitedProtocol(HttpToolsProtocol):
    """Closes a connection if the next request's head does not come within `head_seconds`.

    This ends a connection that is silent, that sends a few bytes at a time, or that goes on with a
    body after the response. Connections above `max_connections` get 503.
    """

    head_seconds: ClassVar[float]
    max_connections: ClassVar[int]
    warned_at: ClassVar[float] = -WARNING_SECONDS
    waiting: ClassVar[int] = 0  # bytes that wait in all connections

    transport: LingeringTransport

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head = 0  # bytes of the head that is not complete
        self._overhead = 0  # bytes since the body's last one: extensions of chunks, or trailers
        self._in_head = False
        self._bad: BadHead | None = None
        self._offer = b""  # the head of a request to upgrade, without the offer
        self._held = b""  # read, but not parsed yet
        self._waiting = 0  # this connection's part of `waiting`
        self._completing = self._refused = False
        self._running: Any = None  # the cycle that runs; `cycle` may be queued behind it
        self._deadline: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Also refuses a connection above the limit, and starts the timer of the first head."""
        super().connection_made(LingeringTransport(transport, self.loop, self._is_sending))
        self.flow = Reading(transport, self._may_read)
        self.app_state[LINGERS] = True
        if len(self.connections) > self.max_connections:
            self._warn(f"refused a connection: {self.max_connections} are open, the limit")
            self.transport.write(_response(503, TOO_MANY))
            self.transport.close()
            self._count_refusal(503)
        else:
            self._start_timer()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Also ends the request that runs; uvicorn ends only the last one in the queue."""
        self._stop_timer()
        super().connection_lost(exc)
        self._drop_waiting()
        if self._running is not None and not self._running.response_complete:
            self._disconnect(self._running)

    @override
    def data_received(self, data: bytes) -> None:
        """Parses what may be parsed now, and holds the rest."""
        if self.transport.closing:
            self.transport.discard(data)
        elif self._held or self.pipeline or len(data) > SLICE_BYTES:
            self._parse_slices(self._held + data)
        elif not self._refused:
            self._parse(data)

    def _parse_slices(self, data: bytes) -> None:
        """Parse until the queue is full; the rest waits, and reading too."""
        self._held = b""
        view, at = memoryview(data), 0
        while at < len(data) and not self._is_full() and not self._is_ending():
            self._parse(view[at : at + SLICE_BYTES])
            at += SLICE_BYTES
        if self._is_ending():
            return
        self._held = data[at:]
        if self._held:
            self.flow.pause_reading()
        self._count_waiting()

    def _parse(self, data: bytes | memoryview) -> None:
        """Also checks the size of an incomplete head, and starts its timer."""
        if self._in_head:
            self._head += len(data)
        elif self.cycle is not None and self.cycle.more_body:
            self._head = 0  # these bytes end a body; the rest of them is not counted
            self._overhead += len(data)
        else:
            self._head, self._overhead = len(data), 0
        self._unset_keepalive_if_required()
        self._feed(data)
        if self._refused or self.transport.closing:
            return
        if self._overhead > MAX_HEAD_BYTES or (self._in_head and self._head > MAX_HEAD_BYTES):
            self.refuse(431, TOO_LARGE)
        elif self._deadline is None and self._awaits_head():
            self._start_timer()

    def _feed(self, data: bytes | memoryview) -> None:
        """Feed the parser. It stops after the head of a request that offers another protocol.

        Such an offer may be ignored (RFC 9110, 7.8). httptools cannot go on with the body, so a new
        parser reads the same head again without the offer, and then the rest.
        """
        try:
            while True:
                try:
                    self.parser.feed_data(data)
                    return
                except httptools.HttpParserUpgrade as stopped:
                    data = data[stopped.args[0] :]
                    self._read_without_offer()
        except httptools.HttpParserError:
            if self._bad is not None:
                self.refuse(self._bad.status, self._bad.reason)
            else:
                self.refuse(400, NOT_CHUNKED if self._reads_body() else NOT_HTTP)

    def _read_without_offer(self) -> None:
        head, self._offer = self._offer, b""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(head)

    @override
    def on_message_begin(self) -> None:
        """Also notes that a head begins."""
        super().on_message_begin()
        self._in_head = True

    @override
    def on_headers_complete(self) -> None:
        """Also stops the timer and checks the head.

        Raises BadHead, for which `_feed` refuses the request. Reading goes on while few requests
        are queued, or a disconnect would not be seen; uvicorn stops at the first.
        """
        self._stop_timer()
        self._in_head, self._head = False, 0
        try:
            self._check_head()
        except BadHead as e:
            self._bad = e
            raise
        if self.parser.should_upgrade():
            self._offer = self._head_without_offer()
            return
        super().on_headers_complete()
        if self.pipeline and len(self.pipeline) < MAX_PIPELINED:
            self.flow.resume_reading()

    def _check_head(self) -> None:
        """Raise BadHead for what is too large, or what another server may read differently."""
        size, hosts, version = len(self.url), 0, self.parser.get_http_version()
        for name, value in self.headers:
            size += len(name) + len(value)
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                if value.lower() != b"chunked":
                    raise BadHead(400, "Transfer-Encoding can only be chunked")
                if version != "1.1":
                    raise BadHead(400, f"HTTP/{version} has no Transfer-Encoding")
        if size > MAX_HEAD_BYTES:
            raise BadHead(431, TOO_LARGE)
        if version not in ("1.1", "1.0"):
            raise BadHead(505, "send HTTP/1.1")
        if hosts > 1:
            raise BadHead(400, "the request has several Host headers")
        if self.parser.should_upgrade() and self.parser.get_method() == b"CONNECT":
            raise BadHead(400, "this is no proxy: CONNECT has no meaning here")

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

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
    def on_message_complete(self) -> None:
        """Passes over the head with an offer, which is read again; else does what uvicorn does."""
        if not self._offer and not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    @override
    def on_response_complete(self) -> None:
        """Also parses what was held, after the next request in the queue has begun."""
        if self.cycle.more_body and self._reads_body() and self.cycle.scope["state"].get(LAST):
            self.transport.close()
        self._completing = True
        super().on_response_complete()
        self._completing = False
        if self._held or self._waiting:
            self._count_waiting()
            self.flow.resume_reading()

    def _may_read(self) -> bool:
        """Whether more can be read, after parsing what is held."""
        if self._refused:
            return False
        if self._held and not self._completing:
            self._parse_slices(self._held)
        return not self._held and not self._refused

    def _is_full(self) -> bool:
        """Whether so much of this connection is parsed and waits that parsing must wait."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        return (
            len(self.cycle.body) > HIGH_WATER_LIMIT
            or len(self.pipeline) >= MAX_PIPELINED
            or sum(len(cycle.body) for cycle, _ in self.pipeline) > MAX_QUEUED_BYTES
        )

    def _count_waiting(self) -> None:
        """Count what waits here; if all connections hold too much, close the one with the most.

        Not this one: what waits behind a stream stays, also of a client that has left, until the
        stream writes again.
        """
        bodies = sum(len(cycle.body) for cycle, _ in self.pipeline)
        held = 0 if self._reads_body() else len(self._held)
        self._set_waiting(held + len(self.pipeline) * REQUEST_BYTES + bodies)
        if self._waiting and LimitedProtocol.waiting > MAX_WAITING_BYTES:
            self._warn("closed a connection: too many requests wait behind others")
            connections: set[LimitedProtocol] = self.connections  # type: ignore[assignment]
            largest = max(connections, key=lambda each: each._waiting)
            largest._refuse_later()
            largest._count_refusal(503)

    def _drop_waiting(self) -> None:
        self._held = b""
        self.pipeline.clear()
        self._set_waiting(0)

    def _set_waiting(self, size: int) -> None:
        LimitedProtocol.waiting += size - self._waiting
        self._waiting = size

    def refuse(self, status: int, reason: str) -> None:
        """Send an error and close; if another response is being sent, close after it instead."""
        if self._running is None or self._running.response_complete:
            self._respond(status, reason)
        elif not self._reads_body():
            self._refuse_later()
        elif self._running.response_started:
            self._running.scope["state"][FAULT] = reason
            self._running.more_body = False
            self._running.message_event.set()
            self._refuse_later()
        else:
            self._respond(status, reason)
            self._disconnect(self._running)
        self._count_refusal(status)

    def _respond(self, status: int, reason: str) -> None:
        self.transport.write(_response(status, reason))
        self._refused = True
        self.transport.close()
        self._drop_waiting()

    def _refuse_later(self) -> None:
        """Read no more, and close after the response that is being sent."""
        self._refused = True
        self._running.keep_alive = False
        self._drop_waiting()
        self.flow.pause_reading()

    def _count_refusal(self, status: int) -> None:
        if (metrics := self.app_state.get("metrics")) is not None:
            metrics.refused(status)

    def _disconnect(self, cycle: Any) -> None:
        cycle.disconnected = True
        cycle.message_event.set()

    def _warn(self, message: str) -> None:
        kind, now = type(self), time.monotonic()
        if now - kind.warned_at > WARNING_SECONDS:
            kind.warned_at = now
            logger.warning(message)

    def _reads_body(self) -> bool:
        """Whether the request that runs is the one that is being parsed."""
        return self._running is not None and self._running is self.cycle and self.cycle.more_body

    def _is_ending(self) -> bool:
        return self._refused or self.transport.closing or self.parser is None

    def _is_sending(self) -> bool:
        """Whether the client may be sending what will not be read."""
        return self._refused or self._in_head or bool(self._held) or self._reads_body()

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
            self.refuse(408, TOO_SLOW)
        else:
            self.transport.close()


def limited(seconds: float, connections: int) -> type[LimitedProtocol]:
    """The protocol with `seconds` for a head and a maximum of `connections`."""

    class Limited(LimitedProtocol):
        head_seconds = seconds
        max_connections = connections

    return Limited


def _response(status: int, reason: str) -> bytes:
    body = msgspec.json.encode(ErrorBody(reason))
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
