"""Why a request fails. Each error knows its HTTP status; `api/responses.py` makes the response.

RequestError
├── BadRequest        400  cannot be read, or holds values that no model takes
│   ├── Incomplete        400  the body that was announced did not come
│   └── EmptyBody         400
├── Unauthorized      401  no key, or a wrong one
├── Forbidden         403  from another machine, and the service has no keys
│   └── CrossSite         403  from a page of another site
├── UnknownModel      404
├── NotFound          404
├── TooSlow           408  the body did not come in time
├── Conflict          409  the id belongs to another task
├── TooMuch           413  body, rows or message too large
│   └── BodyTooLarge      413  it is not read to its end
├── WrongContentType  415
│   └── WrongCoding       415  the body is compressed, and not by gzip
├── Unprocessable     422  well-formed, but not for this model
├── TooMany           429  this key's requests are above their rate
├── UnreadableAnswer  502  what came for a task is not a result
└── Unavailable       503  retry after `Retry-After` seconds
    ├── NotLoaded         503  the model's file cannot be loaded
    ├── Overloaded        503  too many rows wait for the model
    ├── DeadlineExceeded  503  the model did not answer in time
    ├── Stopping          503  the service stops before the answer is ready
    └── Unconfirmed       503  the task may be accepted; retry with the same id
"""

from collections.abc import Mapping

from msgspec import Struct

RETRY_AFTER_SECONDS = 1
CLOSE: Mapping[str, str] = {"Connection": "close"}
MAX_ECHO = 100  # characters of a request that an error repeats


class RequestError(Exception):
    """A request that fails. `str()` is a sentence for the client; `code` is stable.

    Only an error about rows, or about the model of a task, has a code: that of InvalidRow,
    PredictError or NotServed of `model.errors`.
    """

    status: int
    headers: Mapping[str, str] | None = None

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class BadRequest(RequestError):
    """The request cannot be read, or it holds values that no model takes."""

    status = 400


class Incomplete(BadRequest):
    """The body that was announced did not come, so what follows on the connection is unclear."""

    headers: Mapping[str, str] | None = CLOSE


class EmptyBody(BadRequest):
    """There is no body. Plain uvicorn may take one for the next request, so it is closed."""

    headers: Mapping[str, str] | None = CLOSE

    def __init__(self) -> None:
        super().__init__("empty_body: send JSON")


class Unauthorized(RequestError):
    """The request has no key, or a wrong one; send `Authorization: Bearer KEY`."""

    status = 401
    headers: Mapping[str, str] | None = {"WWW-Authenticate": 'Bearer realm="petalstream"'}

    def __init__(self) -> None:
        super().__init__("the service requires an API key: Authorization: Bearer KEY")


class Forbidden(RequestError):
    """The request comes from a page of another site, or from another machine without a key."""

    status = 403

    def __init__(
        self, message: str = "without PETAL_API_KEYS only this machine may send requests"
    ) -> None:
        super().__init__(message)


class CrossSite(Forbidden):
    """A page of another site sends the request, and its origin is not allowed."""

    def __init__(self) -> None:
        super().__init__("pages of other sites may not send this; PETAL_CORS_ORIGINS allows them")


class UnknownModel(RequestError):
    """This service has no model of this name or version."""

    status = 404

    def __init__(self, name: str) -> None:
        super().__init__(f"no model {quote(name)} is served here")


class NotFound(RequestError):
    """Nothing is known under this address."""

    status = 404


class TooSlow(RequestError):
    """The body did not come in time."""

    status = 408
    headers: Mapping[str, str] | None = CLOSE


class Conflict(RequestError):
    """The id belongs to another task."""

    status = 409

    def __init__(self, task_id: str) -> None:
        super().__init__(f"id_conflict: the id {task_id} belongs to another task")


class TooMuch(RequestError):
    """The body, the number of rows or the message is above its limit."""

    status = 413


class BodyTooLarge(TooMuch):
    """The body is above its limit and is not read to its end."""

    headers: Mapping[str, str] | None = CLOSE


class WrongContentType(RequestError):
    """The content type is not one that this operation takes."""

    status = 415


class WrongCoding(WrongContentType):
    """The body is compressed in a way that cannot be read."""

    headers: Mapping[str, str] | None = {"Accept-Encoding": "gzip"}

    def __init__(self) -> None:
        super().__init__("Content-Encoding: send the body as it is, or compressed once by gzip")


class Unprocessable(RequestError):
    """The body can be read, but it is not valid for this model; the error names the field."""

    status = 422


class TooMany(RequestError):
    """The requests with this key are above their rate; retry after `Retry-After` seconds."""

    status = 429
    headers: Mapping[str, str] | None = {"Retry-After": str(RETRY_AFTER_SECONDS)}

    def __init__(self, seconds: int, rate: float) -> None:
        super().__init__(f"more than {rate:g} requests per second; wait {seconds} s")
        self.headers = {"Retry-After": str(seconds)}


class UnreadableAnswer(RequestError):
    """What a worker published for the task is not a result; the task is accepted."""

    status = 502


class Unavailable(RequestError):
    """The request needs a part that is away; nothing was done."""

    status = 503
    headers: Mapping[str, str] | None = {"Retry-After": str(RETRY_AFTER_SECONDS)}


class NotLoaded(Unavailable):
    """The file of this model cannot be loaded; the error says why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"the model {quote(name)} is not loaded: {reason}")


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
    """The task may be accepted or not; retry with the same id."""

    def __init__(self, message: str, task_id: str) -> None:
        super().__init__(message)
        self.task_id = task_id


class Stopping(Unavailable):
    """The service stops before the answer is ready."""

    headers: Mapping[str, str] | None = {"Retry-After": str(RETRY_AFTER_SECONDS), **CLOSE}

    def __init__(self) -> None:
        super().__init__("the service is stopping; retry")


class ErrorBody(Struct, omit_defaults=True):
    """The body of an error.

    `code` is stable and names the fault of a row, or of the model that a task names. `id` is there
    if the task may be accepted: retry with this id.
    """

    error: str
    code: str | None = None
    id: str | None = None


def error_body(error: RequestError) -> ErrorBody:
    """The body of the response to a request that fails."""
    return ErrorBody(str(error), error.code, task_id_of(error))


def task_id_of(error: RequestError) -> str | None:
    """The id with which the client may retry."""
    return error.task_id if isinstance(error, Unconfirmed) else None


def short(text: str) -> str:
    """Cut a text that may repeat a part of a request."""
    return text if len(text) <= MAX_ECHO else text[:MAX_ECHO] + "…"


def quote(text: str) -> str:
    """Quote a part of a request, cut and in ASCII."""
    return ascii(short(text))
