"""A span around each request, the parent of the spans of its tasks."""

from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.types import Message, Receive, Scope, Send

from api.metrics import METHODS
from api.middleware.auth import route_path
from api.middleware.logging import MAX_PATH
from api.middleware.stack import TRACEPARENT_HEADER, MiddlewareStack
from infra.tracing import Tracing, parse_traceparent, traceparent


class TracingMiddleware:
    """ASGI application around the others. The lifespan's state has its `tracing`."""

    def __init__(self, stack: MiddlewareStack) -> None:
        self.app = stack.app
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_probe(route_path(scope)):
            await self._stack(scope, receive, send)
            return
        given = parse_traceparent(dict(scope["headers"]).get(TRACEPARENT_HEADER))
        tracing: Tracing = scope["state"]["tracing"]
        span = tracing.start(_method(scope), SpanKind.SERVER, given, _attributes(scope))
        if (own := traceparent(span)) is not None:
            others = [header for header in scope["headers"] if header[0] != TRACEPARENT_HEADER]
            scope["headers"] = [*others, (TRACEPARENT_HEADER, own)]

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                _record_status(span, message["status"])
            await send(message)

        try:
            await self._stack(scope, receive, send_recorded)
        finally:
            if route := getattr(scope.get("route"), "path", None):
                span.update_name(f"{_method(scope)} {route}")
                span.set_attribute("http.route", route)
            span.end()


def _is_probe(path: str) -> bool:
    """Whether monitoring calls it every few seconds, so its spans would only be noise."""
    return path == "/metrics" or path.startswith(("/v2/health/", "/health/"))


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in METHODS else "HTTP"


def _attributes(scope: Scope) -> dict[str, str]:
    method = scope["method"] if scope["method"] in METHODS else "_OTHER"
    return {
        "http.request.method": method,
        "url.scheme": scope["scheme"],
        "url.path": scope["path"][:MAX_PATH],
        "network.protocol.version": scope["http_version"],
    }


def _record_status(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)
