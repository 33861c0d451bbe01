"""Read the body of a request, limited in bytes and in time."""

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from api.errors import BadRequest, TooMuch, TooSlow, WrongContentType

MAX_BODY = 1_048_576  # bytes
JSON = b"application/json"
BINARY = b"application/octet-stream"


async def read(request: Request) -> bytes:
    """The whole body, which must be JSON by its content type.

    Raises WrongContentType; TooMuch above MAX_BODY bytes, before reading them if Content-Length
    announces them; TooSlow after `api_receive_timeout`; BadRequest if the body is empty.
    """
    headers = request.headers
    check_type(headers.get("content-type", "").encode("latin-1"), (JSON,))
    announced = headers.get("content-length", "").encode("latin-1")
    return await receive_all(request.receive, seconds_of(request), announced)


def seconds_of(request: Request) -> float:
    """How long a body may take to arrive."""
    return float(request.app.state.settings.api_receive_timeout)


def check_type(content_type: bytes, allowed: tuple[bytes, ...]) -> None:
    """Raise WrongContentType unless the header is empty or one of the allowed types."""
    if not content_type or content_type in allowed:
        return
    if content_type.partition(b";")[0].strip().lower() not in allowed:
        names = " or ".join(name.decode() for name in allowed)
        raise WrongContentType(f"the body must be {names}")


async def receive_all(
    receive: Receive, seconds: float, announced: bytes = b"", empty: bool = False
) -> bytes:
    """The whole body; `announced` is the header Content-Length, `empty`: no body is allowed.

    Raises as `read` does, and ClientDisconnect.
    """
    if announced.isdigit() and (len(announced) > 12 or int(announced) > MAX_BODY):
        raise _too_large()
    first = begin(receive())
    if isinstance(first, Begun) or first.get("more_body", False):
        try:
            async with asyncio.timeout(seconds):
                whole = await _joined(first, receive)
        except TimeoutError as e:
            raise TooSlow(f"the body did not come within {seconds:g} s") from e
    else:
        whole = _part(first)
    if not whole and not empty:
        raise BadRequest("empty_body: send JSON")
    return whole


class Begun:
    """A `receive()` that has started to wait."""

    def __init__(self, steps: Generator[Any, None, Message], waits_for: Any) -> None:
        self._steps = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, None, Message]:
        try:
            yield self._waits_for
            return (yield from self._steps)
        finally:
            self._steps.close()  # if cancelled before it continued, it has not ended yet


def begin(receiving: Awaitable[Message]) -> Message | Begun:
    """The message, if `receiving` gives it without waiting; else the rest of the wait.

    A small body arrives with its head and needs no timer. With a timer for each, a request takes
    10 % more CPU time at 32 connections and 19 % at one: medians of 25 alternating turns with and
    without, under the load of `python -m tests.benchmarks.rest --peers ceiling`.
    """
    steps = receiving.__await__()
    try:
        return Begun(steps, next(steps))
    except StopIteration as at_once:
        message: Message = at_once.value
        return message


async def _joined(first: Message | Begun, receive: Receive) -> bytes:
    # Starlette's own limit answers in plain text.
    message = await first if isinstance(first, Begun) else first
    whole = bytearray(_part(message))
    while message.get("more_body", False):
        message = await receive()
        whole += _part(message)
        if len(whole) > MAX_BODY:
            raise _too_large()
    return bytes(whole)


def _part(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    part: bytes = message.get("body", b"")
    if len(part) > MAX_BODY:
        raise _too_large()
    return part


def _too_large() -> TooMuch:
    return TooMuch(f"the body is larger than {MAX_BODY:,} bytes")
