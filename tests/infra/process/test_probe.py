"""The health check of a container asks the one process that listens."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme
from msgspec.structs import replace

from infra.config import Settings
from infra.process.endpoint import READY
from infra.process.probe import fault
from tests.processes import free_port


@contextmanager
def server(status: int, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server on loopback that answers the health check with `status`; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == READY else 404)
            self.end_headers()
            self.wfile.write(b"the model is not loaded")

        def log_message(self, format: str, *args: object) -> None:
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        found.socket = context.wrap_socket(found.socket, server_side=True)
    thread = threading.Thread(target=found.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield found.server_port
    finally:
        found.shutdown()
        thread.join()
        found.server_close()


def closed() -> Settings:
    return Settings(api_port=free_port(), metrics_port=free_port())


def test_without_a_process_it_is_not_ready() -> None:
    assert fault(closed()) == "no process listens"
    assert fault(replace(closed(), metrics_port=0)) == "no process listens"


def test_it_asks_the_api_at_every_address_that_it_may_have() -> None:
    with server(200) as port:
        for host in ("127.0.0.1", "0.0.0.0", "localhost"):
            assert fault(replace(closed(), api_port=port, api_host=host)) is None


def test_it_asks_a_worker_or_sink_where_no_api_listens() -> None:
    with server(200) as port:
        assert fault(replace(closed(), metrics_port=port, metrics_host="0.0.0.0")) is None


def test_it_gives_the_reason_of_a_process_that_is_not_ready() -> None:
    with server(503) as port:
        assert fault(replace(closed(), api_port=port)) == "the model is not loaded"
        assert fault(replace(closed(), metrics_port=port)) == "the model is not loaded"


def test_the_certificate_of_the_service_itself_may_have_any_name(tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("petal.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    path = tmp_path / "chain.pem"
    with server(200, context) as port:
        settings = replace(closed(), api_port=port, api_tls_certificate=path)
        assert fault(settings) is None
