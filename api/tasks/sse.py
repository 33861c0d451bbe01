"""A response of server-sent events. Source: the HTML Standard, 9.2 Server-sent events."""

from collections.abc import AsyncGenerator
from typing import Literal

from msgspec import Struct
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

MEDIA = "text/event-stream"


class Event(Struct, omit_defaults=True):
    """An event: `data` is JSON, `id` a position from which a client can resume."""

    event: Literal["pending", "result"]
    data: str
    id: str | None = None


def encode(name: str, data: bytes, position: str | None = None) -> bytes:
    """An event as bytes; `data` is JSON, which has no raw line ends."""
    head = f"event: {name}\n" + (f"id: {position}\n" if position else "")
    return head.encode() + b"data: " + data + b"\n\n"


def event_stream(events: AsyncGenerator[bytes, None], heartbeat: float) -> Response:
    """A response of `events` until they end or the client disconnects.

    It sends a comment every `heartbeat` seconds.
    """
    response = EventSourceResponse(events, ping=heartbeat, ping_message_factory=_alive)
    del response.headers["cache-control"]  # the middleware sets it for all responses
    del response.headers["connection"]  # uvicorn decides this
    return response


def _alive() -> ServerSentEvent:
    return ServerSentEvent(comment="alive", sep="\n")
