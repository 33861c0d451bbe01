"""Read a request's body, bounded."""

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from api.errors import BadRequest, TooMuch, WrongContentType

MAX_BODY = 1_048_576  # bytes
JSON = b"application/json"
BINARY = b"application/octet-stream"


async def read(request: Request) -> bytes:
    """The whole body of JSON.

    Raises WrongContentType, TooMuch above MAX_BODY bytes (before reading them if their number
    is announced), or BadRequest for an empty one.
    """
    headers = request.headers
    check_type(headers.get("content-type", "").encode("latin-1"), (JSON,))
    return await receive_all(request.receive, headers.get("content-length", "").encode("latin-1"))


def check_type(content_type: bytes, allowed: tuple[bytes, ...]) -> None:
    """Raise WrongContentType unless the header is empty or names one that is allowed."""
    if not content_type or content_type in allowed:
        return
    if content_type.partition(b";")[0].strip().lower() not in allowed:
        names = " or ".join(name.decode() for name in allowed)
        raise WrongContentType(f"the body must be {names}")


async def receive_all(receive: Receive, announced: bytes = b"", empty: bool = False) -> bytes:
    """The whole body, of which `announced` is the header Content-Length; see `read`.

    With `empty` it may be that. Raises ClientDisconnect.
    """
    if announced.isdigit() and (len(announced) > 12 or int(announced) > MAX_BODY):
        raise _too_large()
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
    whole = bytes(parts) if parts else body
    if not whole and not empty:
        raise BadRequest("empty_body: send JSON")
    return whole


def _too_large() -> TooMuch:
    return TooMuch(f"the body is larger than {MAX_BODY:,} bytes")
