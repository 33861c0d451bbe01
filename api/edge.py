"""The outermost of the service: the guard before a request; on each answer the request's id and
headers of safety; counters and the log after it.

One ASGI middleware for all of it: each further one would cost a call for every message.
"""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import logs
from api.errors import RequestError, bug, refusal
from api.guard import Guard
from api.metrics import Metrics
from streams.client import TRACEPARENT
from streams.topics import TRACE_HEADER

SAFETY = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
REQUEST_ID = b"x-request-id"
TRACE = TRACE_HEADER.encode()
CLOSED = 499  # nginx's: the client was gone before there was an answer
TOLD = 200  # most characters of a path in the log


class Edge:
    """ASGI middleware around every request."""

    def __init__(self, app: ASGIApp, guard: Guard, metrics: Metrics) -> None:
        self._app = app
        self._guard = guard
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request that may not pass; mark, count and log every answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0
        given = dict(scope["headers"])
        request_id = logs.request_id(given.get(REQUEST_ID))
        logs.REQUEST_ID.set(request_id)
        TRACEPARENT.set(logs.trace(given.get(TRACE)))

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                mark = (REQUEST_ID, request_id.encode())
                message["headers"] = [*message["headers"], mark, *SAFETY]
            await send(message)

        self._metrics.in_progress += 1
        try:
            await self._guarded(scope, receive, marked)
        except Exception:  # the server logs it
            if not status:
                await bug()(scope, receive, marked)
            raise
        finally:
            self._metrics.in_progress -= 1
            self._done(scope, status or CLOSED, time.perf_counter() - start)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._guard.check(scope)
        except RequestError as e:
            await refusal(e)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _done(self, scope: Scope, status: int, seconds: float) -> None:
        self._metrics.answered(scope, status, seconds)
        if logs.access.isEnabledFor(logging.INFO):
            path, ms = scope["path"][:TOLD], round(seconds * 1000, 3)
            fields = {"method": scope["method"], "path": path, "status": status, "ms": ms}
            text = f"{scope['method']} {path} {status}"
            logs.access.info("%s", text, extra={logs.FIELDS: fields})
