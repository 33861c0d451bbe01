"""Responses of JSON, and Starlette's handlers of exceptions: `{"error": "…"}` with the status."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ExceptionHandler, Receive, Scope, Send
from typing_extensions import override

from api.errors import BodyTooLarge, ErrorBody, RequestError, TooSlow, error_body
from api.transport import LINGER_SECONDS, LINGERS

CLIENT_GONE = 499  # nginx's status: the client closed the connection before the answer


def json_response(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A response of anything that msgspec can encode."""
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


class LastResponse(Response):
    """A response after which the connection closes, though the client may still be sending.

    Plain uvicorn would close so fast that the client may lose the response: see
    `LingeringTransport`. There the end of the response is what waits.
    """

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the whole response at once, and ends it when the client stops sending."""
        if scope["state"].get(LINGERS):
            await super().__call__(scope, receive, send)
            return
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while (await receive()).get("more_body", False):
                    pass
        await send({"type": "http.response.body"})


def error_response(error: RequestError) -> Response:
    """The response to a request that fails."""
    kind = LastResponse if isinstance(error, BodyTooLarge | TooSlow) else Response
    body = msgspec.json.encode(error_body(error))
    return kind(body, error.status, error.headers, media_type="application/json")


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
