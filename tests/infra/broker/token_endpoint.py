"""A token endpoint for client credentials, with TLS, as a test wants it to answer."""

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote_plus

from typing_extensions import override

from tests.infra.broker.secured import token


class Endpoint(ThreadingHTTPServer):
    """Grants tokens for `subject` to the client `petal` with `secret`, and counts the requests.

    `answer`, if set, is a status and a body for every request.
    """

    daemon_threads = True

    def __init__(self, certificate: Path | None, secret: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.secret = secret
        self.subject = "boss"
        self.lifetime = 300.0
        self.answer: tuple[int, bytes] | None = None
        self.requests: list[dict[str, list[str]]] = []
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.server_port}/token"

    def reply(self, authorization: str) -> tuple[int, bytes]:
        """What a request with these credentials gets."""
        if self.answer is not None:
            return self.answer
        pair = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        name, _, secret = pair.partition(":")
        if (unquote_plus(name), unquote_plus(secret)) != ("petal", self.secret):
            # Some endpoints repeat what they got.
            text = f"the secret {unquote_plus(secret)} of petal is wrong"
            return 401, json.dumps({"error": "invalid_client", "error_description": text}).encode()
        granted = token(self.subject, self.lifetime)
        body = {"access_token": granted, "token_type": "Bearer", "expires_in": self.lifetime}
        return 200, json.dumps(body).encode()

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust the certificate is no error here."""


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["content-length"])).decode()
        self.server.requests.append(parse_qs(form))
        status, body = self.server.reply(self.headers["authorization"])
        self.send_response(status)
        if status in (301, 302):
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def serving(certificate: Path | None, secret: str) -> Iterator[Endpoint]:
    """An endpoint that answers during the block."""
    with Endpoint(certificate, secret) as endpoint:
        thread = threading.Thread(target=endpoint.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.shutdown()
            thread.join()
