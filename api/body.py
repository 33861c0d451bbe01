"""Read a request's JSON body, bounded."""

from starlette.requests import Request

from api.errors import BadRequest, TooMuch, WrongContentType

MAX_BODY = 1_048_576  # bytes


async def read(request: Request) -> bytes:
    """The whole body.

    Raises WrongContentType, TooMuch above MAX_BODY bytes (before reading them if their number
    is announced), or BadRequest for an empty one.
    """
    content_type = request.headers.get("content-type", "application/json")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise WrongContentType("the body must be application/json")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MAX_BODY:
        raise _too_large()
    # Starlette's own limit answers in plain text.
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise _too_large()
    if not body:
        raise BadRequest("empty_body: send JSON")
    return bytes(body)


def _too_large() -> TooMuch:
    return TooMuch(f"the body is larger than {MAX_BODY:,} bytes")
