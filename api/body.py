"""Read a request's JSON body, bounded."""

import asyncio

from starlette.requests import Request

from api.errors import BadRequest, TooMuch, TooSlow, WrongContentType

MAX_BODY = 1_048_576  # bytes


async def read(request: Request) -> bytes:
    """The whole body.

    Raises WrongContentType, TooMuch above MAX_BODY bytes (before reading them if their number
    is announced), TooSlow after `api_receive_timeout`, or BadRequest for an empty one.
    """
    content_type = request.headers.get("content-type", "application/json")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise WrongContentType("the body must be application/json")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MAX_BODY:
        raise _too_large()
    seconds: float = request.app.state.settings.api_receive_timeout
    try:
        async with asyncio.timeout(seconds):
            body = await _receive(request)
    except TimeoutError as e:
        raise TooSlow(f"the body did not come within {seconds:g} s") from e
    if not body:
        raise BadRequest("empty_body: send JSON")
    return body


async def _receive(request: Request) -> bytes:
    # Starlette's own limit answers in plain text.
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise _too_large()
    return bytes(body)


def _too_large() -> TooMuch:
    return TooMuch(f"the body is larger than {MAX_BODY:,} bytes")
