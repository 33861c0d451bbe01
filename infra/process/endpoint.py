"""Serves the metrics and the health of a process over HTTP, on threads beside its event loop.

The threads answer also while the loop is blocked, which is when somebody needs to know. This is for
a few probes and scrapers of the operator's; the API has a server of its own.
"""

import errno
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from typing_extensions import override

from infra import access
from infra.config import Settings, variable
from infra.errors import ConfigError
from infra.process import ports

LIVE, READY, METRICS = "/health/live", "/health/ready", "/metrics"
REQUEST_SECONDS = 5.0  # for a client to send its request and to take the response
MAX_REQUESTS = 16  # at the same time; further connections are closed
POLL_SECONDS = 5.0
JSON, TEXT = "application/json", "text/plain; version=0.0.4; charset=utf-8"

logger = logging.getLogger(__name__)

Reply = tuple[str, str, bytes]  # status line, content type, body
StartResponse = Callable[[str, list[tuple[str, str]]], object]


class Pages:
    """The WSGI application. `live` and `ready` return the reasons why the process is not."""

    def __init__(
        self,
        registry: CollectorRegistry,
        live: Callable[[], Sequence[str]],
        ready: Callable[[], Sequence[str]],
        keys: Sequence[bytes] = (),
    ) -> None:
        self._registry = registry
        self._health = {LIVE: ("live", live), READY: ("ready", ready)}
        self._keys = keys

    def __call__(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        try:
            status, kind, body = self._answer(environ)
        except Exception:  # the outermost edge: a scrape must not end in silence
            logger.exception("a request for %s failed", environ["PATH_INFO"])
            status, kind, body = _error("500 Internal Server Error", "internal error")
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        headers += [("Cache-Control", "no-store"), ("Server", "petalstream")]
        if status.startswith("401"):
            headers.append(("WWW-Authenticate", 'Bearer realm="petalstream"'))
        if status.startswith("405"):
            headers.append(("Allow", "GET, HEAD"))
        start(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: dict[str, Any]) -> Reply:
        path = environ["PATH_INFO"]
        if path != METRICS and path not in self._health:
            return _error("404 Not Found", f"there are {METRICS}, {LIVE} and {READY}")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _error("405 Method Not Allowed", "this can only be read, by GET")
        if path != METRICS:
            name, reasons = self._health[path]
            return _health(name, reasons())
        return self._refusal(environ) or ("200 OK", TEXT, generate_latest(self._registry))

    def _refusal(self, environ: dict[str, Any]) -> Reply | None:
        """Why a client gets no metrics, by the rules of `api.middleware.auth`."""
        if self._keys:
            sent = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1")
            if access.find_key(self._keys, sent) is None:
                need = "the metrics require an API key: Authorization: Bearer KEY"
                return _error("401 Unauthorized", need)
            return None
        host = environ.get("HTTP_HOST", "").encode("latin-1")
        if not access.is_loopback(access.name_of_host(host)):
            return _error("403 Forbidden", "without API keys only this machine is answered")
        return None


def _health(name: str, reasons: Sequence[str]) -> Reply:
    status = "503 Service Unavailable" if reasons else "200 OK"
    body = {name: not reasons, **({"reasons": list(reasons)} if reasons else {})}
    return status, JSON, msgspec.json.encode(body)


def _error(status: str, sentence: str) -> Reply:
    return status, JSON, msgspec.json.encode({"error": sentence})


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: probes come every few seconds."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = MAX_REQUESTS

    def __init__(self, family: int, address: Any, pages: Pages) -> None:
        self.address_family = family
        self._room = threading.Semaphore(MAX_REQUESTS)
        super().__init__(address, _Handler)
        self.set_app(pages)

    @override
    def server_bind(self) -> None:
        """Bind without the look-up of a host's name, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    @override
    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a request, if there is room."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    @override
    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a request."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with a connection; socketserver would print a traceback."""
        logger.debug("a request for metrics or health failed", exc_info=True)


class Endpoint:
    """Listens from its construction on, at the first free port from the setting's on.

    Raises ConfigError if the address cannot be used, or other machines can reach it and there are
    no keys. `address`: HOST:PORT.
    """

    def __init__(self, settings: Settings, pages: Pages) -> None:
        self._server = _listen(settings, pages)
        host, port = settings.metrics_host.strip("[]"), self._server.server_port
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="metrics", daemon=True
        ).start()

    def close(self) -> None:
        """Listen no more."""
        self._server.socket.close()


def _listen(settings: Settings, pages: Pages) -> _Server:
    host = settings.metrics_host.strip("[]")
    for port in range(settings.metrics_port, ports.MAX_PORT + 1):
        try:
            [(family, *_, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return _Server(family, address, pages)
        except (OSError, UnicodeError) as e:
            if getattr(e, "errno", None) != errno.EADDRINUSE:
                raise ConfigError(ports.fault("metrics", host, port, e)) from e
    raise ConfigError(f"no port from {variable('metrics_port')}={settings.metrics_port} on is free")


def keys_for(settings: Settings) -> tuple[bytes, ...]:
    """The keys that clients need; raises ConfigError where there must be some."""
    keys = access.read_keys(settings)
    access.check_reachable("metrics_host", settings.metrics_host, keys)
    return keys
