"""Responses of JSON, and Starlette's handlers of exceptions: `{"error": "…"}` with the status."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from api.errors import ErrorBody, RequestError, error_body

CLIENT_GONE = 499  # nginx's status: the client closed the connection before the answer


def json_response(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A response of anything that msgspec can encode."""
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


def error_response(error: RequestError) -> Response:
    """The response to a request that fails."""
    return json_response(error_body(error), error.status, error.headers)


def bug_response() -> Response:
    """The response to a request that met a bug of ours; the log has its traceback."""
    return json_response(ErrorBody(HTTPStatus(500).phrase), 500)


async def on_request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_response(error)


async def on_http_exception(_: Request, error: Exception) -> Response:
    """Starlette's own errors: no such route, method not allowed."""
    assert isinstance(error, HTTPException)
    return json_response(ErrorBody(error.detail), error.status_code, error.headers)


async def on_disconnect(_: Request, __: Exception) -> Response:
    """Nobody reads this response; its status is for metrics and the log."""
    return Response(status_code=CLIENT_GONE)


async def on_bug(_: Request, __: Exception) -> Response:
    return bug_response()


EXCEPTION_HANDLERS: Mapping[Any, ExceptionHandler] = {
    RequestError: on_request_error,
    HTTPException: on_http_exception,
    ClientDisconnect: on_disconnect,
    Exception: on_bug,
}
