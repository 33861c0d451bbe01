"""The REST service in a thread of the test, and a client that reads its JSON."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import aiohttp
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.app import create_app
from infra.config import Settings
from tests.processes import free_port, wait_until


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


async def _call(method: str, url: str, **kwargs: Any) -> Reply:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, **kwargs) as response,
    ):
        text = await response.text()
        headers = {k.lower(): v for k, v in response.headers.items()}
        return Reply(response.status, headers, json.loads(text) if text else None)


def call(method: str, url: str, **kwargs: Any) -> Reply:
    return asyncio.run(_call(method, url, **kwargs))


async def bug(_: Request) -> Response:
    raise RuntimeError("secret")


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """The service in a thread; yields its address."""
    app = create_app(settings)
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
