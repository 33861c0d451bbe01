"""Read a request's body, bounded in bytes and in time."""

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from api.errors import BadRequest, TooMuch, TooSlow, WrongContentType

MAX_BODY = 1_048_576  # bytes
JSON = b"application/json"
BINARY = b"application/octet-stream"


async def read(request: Request) -> bytes:
    """The whole body of JSON.

    Raises WrongContentType, TooMuch above MAX_BODY bytes (before reading them if their number
    is announced), TooSlow after `api_receive_timeout`, or BadRequest for an empty one.
    """
    headers = request.headers
    check_type(headers.get("content-type", "").encode("latin-1"), (JSON,))
    announced = headers.get("content-length", "").encode("latin-1")
    return await receive_all(request.receive, seconds_of(request), announced)


def seconds_of(request: Request) -> float:
    """The time that a body may take."""
    return float(request.app.state.settings.api_receive_timeout)


def check_type(content_type: bytes, allowed: tuple[bytes, ...]) -> None:
    """Raise WrongContentType unless the header is empty or names one that is allowed."""
    if not content_type or content_type in allowed:
        return
    if content_type.partition(b";")[0].strip().lower() not in allowed:
        names = " or ".join(name.decode() for name in allowed)
        raise WrongContentType(f"the body must be {names}")


async def receive_all(
    receive: Receive, seconds: float, announced: bytes = b"", empty: bool = False
) -> bytes:
    """The whole body, of which `announced` is the header Content-Length; see `read`.

    With `empty` it may be that. Raises ClientDisconnect.
    """
    if announced.isdigit() and (len(announced) > 12 or int(announced) > MAX_BODY):
        raise _too_large()
    try:
        async with asyncio.timeout(seconds):
            whole = await _receive(receive)
    except TimeoutError as e:
        raise TooSlow(f"the body did not come within {seconds:g} s") from e
    if not whole and not empty:
        raise BadRequest("empty_body: send JSON")
    return whole


async def _receive(receive: Receive) -> bytes:
    # Starlette's own limit answers in plain text.
    body, more = b"", True
    parts = bytearray()
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body, more = message.get("body", b""), message.get("more_body", False)
        if more or parts:
            parts += body
        if len(parts) > MAX_BODY or len(body) > MAX_BODY:
            raise _too_large()
    return bytes(parts) if parts else body


def _too_large() -> TooMuch:
    return TooMuch(f"the body is larger than {MAX_BODY:,} bytes")
