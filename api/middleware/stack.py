"""The ASGI application that uvicorn calls: Starlette, with all our middleware around it.

It checks key and rate before a request, adds an id and headers of safety to each response, and
counts and logs it afterwards. This is one application, not five: each further layer would cost
a call for every ASGI message.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable
from typing import NamedTuple, Protocol

from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send

from api.errors import RequestError, Stopping
from api.metrics import Metrics
from api.middleware.auth import Auth
from api.middleware.logging import REQUEST_ID, log_request, request_id
from api.middleware.origin import Origins
from api.middleware.rate_limit import RateLimit
from api.responses import CLIENT_GONE, bug_response, error_response
from infra.errors import ConfigError
from infra.topics import TRACE_HEADER
from infra.tracing import TRACEPARENT, parse_traceparent
from model.errors import ArtifactError

SAFETY = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
CACHED = (b"cache-control", b"no-cache")  # of the page's own files
REQUEST_ID_HEADER = b"x-request-id"
TRACEPARENT_HEADER = TRACE_HEADER.encode()


class Shortcut(Protocol):
    """An endpoint past the router, whose routing would cost it a quarter of its time."""

    def takes(self, scope: Scope) -> bool:
        """Whether this is a request for it; then it sets the scope's route and path parameters."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class Checks(NamedTuple):
    """What is checked before a request."""

    auth: Auth
    rate: RateLimit
    origins: Origins


class MiddlewareStack:
    """ASGI application around `app`; requests that `shortcut` takes go past the router."""

    def __init__(
        self, app: Starlette, shortcut: Shortcut, checks: Checks, metrics: Metrics
    ) -> None:
        self.app = app
        self._shortcut = shortcut
        self._checks = checks
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, _shorten_failure(send))
            return
        start, status = time.perf_counter(), 0
        headers = dict(scope["headers"])
        marked_id = request_id(headers.get(REQUEST_ID_HEADER))
        REQUEST_ID.set(marked_id)
        TRACEPARENT.set(parse_traceparent(headers.get(TRACEPARENT_HEADER)))

        def send_marked(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                mark = (REQUEST_ID_HEADER, marked_id.encode())
                safety = SAFETY[:1] if CACHED in message["headers"] else SAFETY
                message["headers"] = [*message["headers"], mark, *safety]
                if b"upgrade" in headers:  # plain uvicorn may take its body for the next request
                    message["headers"].append((b"connection", b"close"))
            return send(message)

        self._metrics.in_progress += 1
        try:
            await self._answer(scope, headers, receive, send_marked)
        except asyncio.CancelledError:  # uvicorn's grace at a stop is over: this task ends too
            if not status:
                await error_response(Stopping())(scope, receive, send_marked)
        except Exception:  # uvicorn logs it
            if not status:
                await bug_response()(scope, receive, send_marked)
            raise
        finally:
            self._metrics.in_progress -= 1
            self._report(scope, status or CLIENT_GONE, time.perf_counter() - start)

    async def _answer(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        auth, rate, origins = self._checks
        try:
            if b"origin" in headers or b"sec-fetch-site" in headers:
                origins.check(scope["method"], headers)
            if (key := auth.check(scope)) is not None:
                rate.check(key)
            endpoint = self._shortcut if self._shortcut.takes(scope) else self.app
            await endpoint(scope, receive, send)
        except RequestError as e:
            await error_response(e)(scope, receive, send)

    def _report(self, scope: Scope, status: int, seconds: float) -> None:
        self._metrics.answered(scope, status, seconds)
        log_request(scope["method"], scope["path"], status, seconds)


def _shorten_failure(send: Send) -> Send:
    """Replace Starlette's traceback of a failed start by one line, where one is enough."""

    def send_short(message: Message) -> Awaitable[None]:
        error = sys.exception()
        if isinstance(error, ArtifactError | ConfigError):
            message["message"] = f"petalstream: {error}"
        return send(message)

    return send_short
