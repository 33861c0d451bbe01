"""What the service says of itself: OpenAPI, AsyncAPI, and a page to read."""

from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.docs import asyncapi, openapi
from api.docs import html as page
from api.operation import JSON, Content, Operation
from infra.config import Settings

DOCUMENTS = "Documents"
HTML, CSS = "text/html", "text/css"
STYLE = Path(__file__).with_name(page.STYLE)
POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"


class Documents:
    """The routes of the documents; `others` are all other routes of the service."""

    def __init__(self, others: list[Route], settings: Settings) -> None:
        self._others = list(others)
        self._settings = settings
        self._version = metadata.version("petalstream")

    def routes(self) -> list[Route]:
        """What this answers, and where."""
        return [
            Route("/openapi.json", self.openapi),
            Route("/asyncapi.json", self.asyncapi),
            Route("/docs", self.page),
            Route(f"/docs/{page.STYLE}", self.style),
        ]

    @cached_property
    def _openapi(self) -> dict[str, Any]:
        return openapi.document([*self._others, *self.routes()], self._version)

    @Operation(DOCUMENTS, {200: dict[str, Any]}, open=True)
    async def openapi(self, _: Request) -> Response:
        """What can be asked here, as OpenAPI 3.1."""
        return Response(msgspec.json.encode(self._openapi), media_type=JSON)

    @Operation(DOCUMENTS, {200: dict[str, Any]}, open=True)
    async def asyncapi(self, _: Request) -> Response:
        """The topics behind the service, as AsyncAPI 3."""
        told = asyncapi.document(self._settings, self._version)
        return Response(msgspec.json.encode(told), media_type=JSON)

    @Operation(DOCUMENTS, {200: Content({HTML: str})}, open=True)
    async def page(self, _: Request) -> Response:
        """What can be asked here, for people."""
        html = page.render(self._openapi)
        return Response(html, media_type=HTML, headers={"Content-Security-Policy": POLICY})

    @Operation(DOCUMENTS, {200: Content({CSS: str})}, open=True)
    async def style(self, _: Request) -> Response:
        """The page's style."""
        return Response(STYLE.read_bytes(), media_type=CSS)
