"""Why a request gets no answer, and how HTTP says so: `{"error": "…"}` with the status.

RequestError
├── BadRequest        400  cannot be read, or holds what no model can take
├── Unauthorized      401  no key, or a wrong one
├── Forbidden         403  from elsewhere, and the service has no keys
├── UnknownModel      404
├── NotFound          404
├── TooSlow           408  the body did not come in time
├── Conflict          409  the id is another task's
├── TooMuch           413  body, rows or message too large
├── WrongContentType  415
├── Unprocessable     422  well-formed, but not for this model
├── TooMany           429  this key's requests are above their rate
└── Unavailable       503  try again after `Retry-After` seconds
    ├── Overloaded        503  too many rows wait for the model
    ├── DeadlineExceeded  503  the model did not answer in time
    ├── Stopping          503  the service ends before it has an answer
    └── Unconfirmed       503  the task may be accepted; try again with the same id
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

RETRY_AFTER = 1  # seconds
CLOSED = 499  # nginx's: the client was gone before there was an answer
ECHOED = 100  # most characters of a request that an answer repeats


class RequestError(Exception):
    """A request that is refused. `str()` is a sentence for the client, `code` a stable name."""

    status: int
    headers: Mapping[str, str] | None = None
    code: str | None = None

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class BadRequest(RequestError):
    """A request that cannot be read, or holds what no model can take."""

    status = 400


class Unauthorized(RequestError):
    """No key, or a wrong one; `Authorization: Bearer KEY`."""

    status = 401
    headers: Mapping[str, str] | None = {"WWW-Authenticate": 'Bearer realm="petalstream"'}

    def __init__(self) -> None:
        super().__init__("send one of the service's keys: Authorization: Bearer KEY")


class Forbidden(RequestError):
    """A request that came from elsewhere to a service without keys."""

    status = 403

    def __init__(self) -> None:
        super().__init__("without PETAL_API_KEYS only this machine may ask")


class UnknownModel(RequestError):
    """No model of this name or version is served here."""

    status = 404

    def __init__(self, name: str) -> None:
        super().__init__(f"no model {quote(name)} is served here")


class NotFound(RequestError):
    """Nothing is known under this address."""

    status = 404


class TooSlow(RequestError):
    """A body that did not come in time."""

    status = 408
    headers: Mapping[str, str] | None = {"Connection": "close"}


class Conflict(RequestError):
    """A task id that was used for another task."""

    status = 409

    def __init__(self, task_id: str) -> None:
        super().__init__(f"id_conflict: the id {task_id} is another task's")


class TooMuch(RequestError):
    """A body, a number of rows or a message above its limit."""

    status = 413


class WrongContentType(RequestError):
    """A body that does not claim to be JSON."""

    status = 415


class Unprocessable(RequestError):
    """A body that can be read but is no question for this model; the answer names the field."""

    status = 422


class TooMany(RequestError):
    """More requests than a key's rate allows; try again after `Retry-After` seconds."""

    status = 429
    headers: Mapping[str, str] | None = {"Retry-After": str(RETRY_AFTER)}

    def __init__(self, seconds: int, rate: float) -> None:
        super().__init__(f"more than {rate:g} requests per second; wait {seconds} s")
        self.headers = {"Retry-After": str(seconds)}


class Unavailable(RequestError):
    """What the request needs is away; nothing was done."""

    status = 503
    headers: Mapping[str, str] | None = {"Retry-After": str(RETRY_AFTER)}


class Overloaded(Unavailable):
    """Too many rows wait for the model already; nothing was done."""

    def __init__(self, queued_rows: int, max_rows: int) -> None:
        super().__init__(
            f"{queued_rows} rows wait for the model, the limit is {max_rows}; try again later"
        )


class DeadlineExceeded(Unavailable):
    """The model did not answer in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the model did not answer within {seconds:g} s")


class Unconfirmed(Unavailable):
    """The task may be accepted or not."""

    def __init__(self, message: str, task_id: str) -> None:
        super().__init__(message)
        self.task_id = task_id


class Stopping(Unavailable):
    """The service stops before it has an answer."""

    headers: Mapping[str, str] | None = {"Retry-After": str(RETRY_AFTER), "Connection": "close"}

    def __init__(self) -> None:
        super().__init__("the service is stopping; ask again")


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """The body of every answer that is an error; `id` where the same task may be sent again."""

    error: str
    id: str | None = None
    code: str | None = None


def short(text: str) -> str:
    """A text that may repeat a part of a request, of which no answer repeats more."""
    return text if len(text) <= ECHOED else text[:ECHOED] + "…"


def quote(text: str) -> str:
    """A part of a request as an answer may repeat it: quoted and short."""
    return ascii(short(text))


def json_response(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A response of anything that msgspec can encode."""
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


async def on_request_error(_: Request, error: Exception) -> Response:
    """Starlette's handler of RequestError."""
    assert isinstance(error, RequestError)
    return refusal(error)


def refusal(error: RequestError) -> Response:
    """The response that says why a request is refused."""
    task_id = error.task_id if isinstance(error, Unconfirmed) else None
    return json_response(ErrorBody(str(error), task_id, error.code), error.status, error.headers)


async def on_disconnect(_: Request, __: Exception) -> Response:
    """Starlette's handler of a client that is gone, to whom no answer comes."""
    return Response(status_code=CLOSED)


async def on_http_exception(_: Request, error: Exception) -> Response:
    """Starlette's handler of its own errors: no such route, method not allowed."""
    assert isinstance(error, HTTPException)
    return json_response(ErrorBody(error.detail), error.status_code, error.headers)


async def on_bug(_: Request, __: Exception) -> Response:
    """Starlette's handler of all that is no error of the client's."""
    return bug()


def bug() -> Response:
    """The response to a request that met a fault of ours; what it was, the log says."""
    return json_response(ErrorBody(HTTPStatus(500).phrase), 500)
