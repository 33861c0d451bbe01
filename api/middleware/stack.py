"""The service as uvicorn calls it: around Starlette, and past it for an inference.

The guard before a request; on each answer the request's id and headers of safety; counters and
the log after it. One ASGI application for all of it: each further layer would cost a call for
every message.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable

from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send

from api.errors import CLOSED, RequestError, Stopping, bug, refusal
from api.inference.endpoint import InferenceEndpoint
from api.metrics import Metrics
from api.middleware import logging as logs
from api.middleware.auth import Guard
from infra.errors import ConfigError
from infra.topics import TRACE_HEADER
from infra.tracing import TRACEPARENT
from model.errors import ArtifactError

SAFETY = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
REQUEST_ID = b"x-request-id"
TRACE = TRACE_HEADER.encode()
TOLD = 200  # most characters of a path in the log


class Edge:
    """ASGI application around all others."""

    def __init__(
        self, app: Starlette, infer: InferenceEndpoint, guard: Guard, metrics: Metrics
    ) -> None:
        self.app = app
        self._infer = infer
        self._guard = guard
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request that may not pass; mark, count and log every answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, shortened(send))
            return
        start, status = time.perf_counter(), 0
        given = dict(scope["headers"])
        request_id = logs.request_id(given.get(REQUEST_ID))
        logs.REQUEST_ID.set(request_id)
        TRACEPARENT.set(logs.trace(given.get(TRACE)))

        def marked(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                mark = (REQUEST_ID, request_id.encode())
                message["headers"] = [*message["headers"], mark, *SAFETY]
            return send(message)

        self._metrics.in_progress += 1
        try:
            self._guard.check(scope)
            answer = self._infer if self._infer.takes(scope) else self.app
            await answer(scope, receive, marked)
        except RequestError as e:
            await refusal(e)(scope, receive, marked)
        except asyncio.CancelledError:  # the server's grace at a stop is over, and so is this task
            if not status:
                await refusal(Stopping())(scope, receive, marked)
        except Exception:  # the server logs it
            if not status:
                await bug()(scope, receive, marked)
            raise
        finally:
            self._metrics.in_progress -= 1
            self._done(scope, status or CLOSED, time.perf_counter() - start)

    def _done(self, scope: Scope, status: int, seconds: float) -> None:
        self._metrics.answered(scope, status, seconds)
        if logs.access.isEnabledFor(logging.INFO):
            path, ms = scope["path"][:TOLD], round(seconds * 1000, 3)
            fields = {"method": scope["method"], "path": path, "status": status, "ms": ms}
            text = f"{scope['method']} {path} {status}"
            logs.access.info("%s", text, extra={logs.FIELDS: fields})


def shortened(send: Send) -> Send:
    """Send why a start failed, for want of a usable model or key, in one line."""

    def send_short(message: Message) -> Awaitable[None]:
        error = sys.exception()
        if isinstance(error, ArtifactError | ConfigError):
            message["message"] = f"petalstream: {error}"
        return send(message)

    return send_short
