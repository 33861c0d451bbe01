"""Read the body of a request, limited in bytes and in time."""

import asyncio
from collections.abc import Awaitable, Generator, Iterable, Iterator
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from api.coding import Gunzip, is_gzip
from api.errors import (
    BadRequest,
    BodyTooLarge,
    EmptyBody,
    Incomplete,
    TooSlow,
    Unavailable,
    WrongContentType,
)

MAX_BODY = 1_048_576  # bytes, also after decompression
MAX_ARRIVING = 128 * MAX_BODY  # of all bodies that are arriving in several parts
FAULT = "body_fault"  # in the state of a scope: why the rest of the body cannot be read
JSON = b"application/json"
BINARY = b"application/octet-stream"
TEXT = b"text/plain"
BOM = b"\xef\xbb\xbf"
NOT_UTF_8 = (b"\xff\xfe", b"\xfe\xff", b"\x00")  # UTF-16 and UTF-32 begin so


async def read(request: Request, types: tuple[bytes, ...] = (JSON,), empty: bool = False) -> bytes:
    """The whole body as UTF-8; its content type, if it has one, must be one of `types`.

    Raises WrongContentType; BodyTooLarge above MAX_BODY bytes, before reading them if
    Content-Length announces them; TooSlow after `api_receive_timeout`; Incomplete; EmptyBody,
    unless the body may be `empty`; BadRequest if it cannot be decompressed.
    """
    headers = request.headers
    check_type(headers.get("content-type", "").encode("latin-1"), types)
    compressed = is_gzip(*codings(request))
    announced = headers.get("content-length", "").encode("latin-1")
    data = await receive_all(request.receive, seconds_of(request), announced, empty)
    if not data:
        check_arrived(request.scope["headers"])
    return skip_bom(decompress(data) if compressed else data)


def decompress(data: bytes) -> bytes:
    """What was compressed by gzip; raises BadRequest, or BodyTooLarge above MAX_BODY bytes."""
    whole = Gunzip().whole(data, MAX_BODY)
    if len(whole) > MAX_BODY:
        raise too_large()
    return whole


def skip_bom(data: bytes) -> bytes:
    """The data after the byte order mark of UTF-8; raises BadRequest for UTF-16 and UTF-32."""
    if data.startswith(BOM):
        return data[len(BOM) :]
    if data.startswith(NOT_UTF_8) or data[1:2] == b"\0":
        raise BadRequest("the body is not UTF-8")
    return data


def codings(request: Request) -> Iterator[bytes]:
    """The values of the headers Content-Encoding."""
    return (value for name, value in request.scope["headers"] if name == b"content-encoding")


def check_arrived(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise Incomplete if these headers announce a body; call it when none came.

    Plain uvicorn gives up the body of a request that offers another protocol with `Upgrade`.
    """
    given = dict(headers)
    length = given.get(b"content-length", b"")
    if length.isdigit() and int(length) > 0:
        raise Incomplete(f"the body ended after 0 of its {int(length)} bytes")
    if b"transfer-encoding" in given and b"upgrade" in given:
        raise Incomplete("the body did not arrive: send the request without `Upgrade`")


def seconds_of(request: Request) -> float:
    """How long a body may take to arrive."""
    return float(request.app.state.settings.api_receive_timeout)


def check_type(content_type: bytes, allowed: tuple[bytes, ...]) -> None:
    """Raise WrongContentType unless the header is empty or one of the allowed types.

    `application/NAME+json` is JSON too. What a page of another site can send without asking first,
    such as text and forms, is not allowed.
    """
    if not content_type or content_type in allowed:
        return
    given = content_type.partition(b";")[0].strip().lower()
    if given in allowed or (given.startswith(b"application/") and given.endswith(b"+json")):
        return
    names = " or ".join(name.decode() for name in allowed)
    raise WrongContentType(f"the body must be {names}")


async def receive_all(
    receive: Receive, seconds: float, announced: bytes = b"", empty: bool = False
) -> bytes:
    """The whole body; `announced` is the header Content-Length, `empty`: no body is allowed.

    Raises as `read` does, and ClientDisconnect.
    """
    if announced.isdigit() and (len(announced) > 12 or int(announced) > MAX_BODY):
        raise too_large()
    first = begin(receive())
    if isinstance(first, Begun) or first.get("more_body", False):
        try:
            async with asyncio.timeout(seconds):
                whole = await _joined(first, receive)
        except TimeoutError as e:
            raise TooSlow(f"the body did not come within {seconds:g} s") from e
    else:
        whole = _part(first)
    if announced.isdigit() and len(whole) != int(announced):
        raise Incomplete(f"the body ended after {len(whole)} of its {int(announced)} bytes")
    if not whole and not empty:
        raise EmptyBody
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


class Arriving:
    """Counts the bytes of all bodies that are arriving, and bounds them."""

    def __init__(self) -> None:
        self._bytes = 0

    def add(self, size: int) -> None:
        """Count a part; raises Unavailable above MAX_ARRIVING."""
        if self._bytes + size > MAX_ARRIVING:
            raise Unavailable("too many large bodies arrive at the same time")
        self._bytes += size

    def remove(self, size: int) -> None:
        """Forget the parts of a body that has arrived, or will not."""
        self._bytes -= size


_arriving = Arriving()


async def _joined(first: Message | Begun, receive: Receive) -> bytes:
    # Starlette's own limit answers in plain text.
    message = await first if isinstance(first, Begun) else first
    whole = bytearray()
    try:
        while True:
            part = _part(message)
            if len(whole) + len(part) > MAX_BODY:
                raise too_large()
            _arriving.add(len(part))
            whole += part
            if not message.get("more_body", False):
                return bytes(whole)
            message = await receive()
    finally:
        _arriving.remove(len(whole))


def _part(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    part: bytes = message.get("body", b"")
    if len(part) > MAX_BODY:
        raise too_large()
    return part


def too_large() -> BodyTooLarge:
    """The error of a body above MAX_BODY."""
    return BodyTooLarge(f"the body is larger than {MAX_BODY:,} bytes")
