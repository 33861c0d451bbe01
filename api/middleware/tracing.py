"""A span around each request, which is the parent of all that the request causes."""

from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.types import Message, Receive, Scope, Send

from api.metrics import METHODS
from api.middleware import logging as logs
from api.middleware.stack import TOLD, TRACE, Edge
from infra.tracing import Tracing, traceparent


class Traced:
    """ASGI application around the service, which opens it before the first request."""

    _tracing: Tracing

    def __init__(self, edge: Edge) -> None:
        self.app = edge.app
        self._edge = edge

    def open(self) -> None:
        """Begin to export; raises ConfigError."""
        self._tracing = Tracing("petal-api")

    def close(self) -> None:
        """Export what is left."""
        self._tracing.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the service does; its log and its tasks belong to this request's span."""
        if scope["type"] != "http" or _is_probe(scope["path"]):
            await self._edge(scope, receive, send)
            return
        given = logs.trace(dict(scope["headers"]).get(TRACE))
        span = self._tracing.start(_method(scope), SpanKind.SERVER, given, _request(scope))
        if (own := traceparent(span)) is not None:
            others = [header for header in scope["headers"] if header[0] != TRACE]
            scope["headers"] = [*others, (TRACE, own)]

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                _answered(span, message["status"])
            await send(message)

        try:
            await self._edge(scope, receive, watched)
        finally:
            if route := getattr(scope.get("route"), "path", None):
                span.update_name(f"{_method(scope)} {route}")
                span.set_attribute("http.route", route)
            span.end()


def _is_probe(path: str) -> bool:
    """Whether it is asked every few seconds, so that traces would tell nothing."""
    return path == "/metrics" or path.startswith("/v2/health/")


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in METHODS else "HTTP"


def _request(scope: Scope) -> dict[str, str]:
    method = scope["method"] if scope["method"] in METHODS else "_OTHER"
    return {
        "http.request.method": method,
        "url.scheme": scope["scheme"],
        "url.path": scope["path"][:TOLD],
        "network.protocol.version": scope["http_version"],
    }


def _answered(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)
