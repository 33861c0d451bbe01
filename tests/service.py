"""The REST service for tests, as a process or in a thread, and plain HTTP clients."""

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import uvicorn
from aiokafka import AIOKafkaConsumer, TopicPartition
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.app import create_app
from infra.config import Settings
from tests.processes import Pipeline, free_port, settings_for, wait_until

INFER = "/v2/models/iris/infer"
QUESTION = {
    "inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]
}
KEY = "a-key-for-the-tests-only"


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Service(NamedTuple):
    pipeline: Pipeline
    port: int
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """One request on a connection of its own; `body` is sent as JSON, bytes as they are."""
        if self.tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        else:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=30, context=self.tls
            )
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            names.setdefault("content-type", "application/json")
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        with contextlib.closing(connection):
            connection.request(method, path, data, names)
            got = connection.getresponse()
            return Reply(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 30)


@contextlib.contextmanager
def serving(
    folder: Path,
    artifact: Path,
    env: dict[str, str] | None = None,
    broker: bool = True,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Service]:
    """`python -m api`, by default with a broker."""
    settings = {**settings_for(folder, artifact), **(env or {})}
    with Pipeline(folder, settings) as p:
        if broker:
            p.broker()
        yield start_service(p, tls=tls)


def start_service(
    pipeline: Pipeline, seconds: float = 30.0, tls: ssl.SSLContext | None = None
) -> Service:
    """Start `python -m api` in a pipeline; returns when it listens."""
    process = pipeline.start(sys.executable, "-m", "api")
    port = int(pipeline.env["PETAL_API_PORT"])

    def listens() -> bool:
        assert process.exit_code is None, process.output
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens, seconds, "the service listens")
    return Service(pipeline, port, tls)


async def record_headers(service: Service, topic: str, count: int) -> dict[bytes, Any]:
    """The headers of the first `count` records of a topic, by key."""
    server = f"127.0.0.1:{service.pipeline.env['PETAL_EMBEDDED_PORT']}"
    consumer = AIOKafkaConsumer(
        bootstrap_servers=server, fetch_max_wait_ms=20, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, p) for p in range(4)])
        await consumer.seek_to_beginning()
        async with asyncio.timeout(20):
            records = [await consumer.getone() for _ in range(count)]
        return {record.key: record.headers for record in records}
    finally:
        await consumer.stop()


def received(connection: socket.socket) -> bytes:
    """All that comes until the service closes the connection."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """What comes until `end` is in it."""
    answer = b""
    while end not in answer:
        part = connection.recv(65_536)
        assert part, answer
        answer += part
    return answer


async def _call(method: str, url: str, **kwargs: Any) -> Reply:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, **kwargs) as response,
    ):
        headers = {k.lower(): v for k, v in response.headers.items()}
        return Reply(response.status, headers, await response.read())


def call(method: str, url: str, **kwargs: Any) -> Reply:
    """One request by aiohttp, whose arguments it takes."""
    return asyncio.run(_call(method, url, **kwargs))


async def bug(_: Request) -> Response:
    raise RuntimeError("secret")


@contextlib.contextmanager
def in_thread(settings: Settings) -> Iterator[str]:
    """The service in a thread of the test, with a route that fails; yields its address."""
    app: Any = create_app(settings)
    app.app.router.routes.append(Route("/bug", bug))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), 20, "the service serves")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
