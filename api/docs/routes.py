"""The routes of the documents: OpenAPI, AsyncAPI, and a page for people."""

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.docs import asyncapi, html, openapi
from api.operation import JSON, Content, Operation
from infra.config import Settings
from model.card import Card

TAG = "Documents"
HTML, CSS = "text/html", "text/css"
STYLE = Path(__file__).with_name(html.STYLE)
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Documents:
    """The routes of the documents; `others` are all other routes of the service.

    `cards` returns the cards of the models that the examples are for, the default's first.
    """

    def __init__(
        self, others: list[Route], settings: Settings, cards: Callable[[], list[Card]]
    ) -> None:
        self._others = list(others)
        self._cards = cards
        self._settings = settings
        self._made: tuple[list[Card], dict[str, Any]] | None = None
        self._version = metadata.version("petalstream")

    def routes(self) -> list[Route]:
        return [
            Route("/openapi.json", self.openapi),
            Route("/asyncapi.json", self.asyncapi),
            Route("/docs", self.page),
            Route(f"/docs/{html.STYLE}", self.style),
        ]

    def _openapi(self) -> dict[str, Any]:
        """The document of the models that are served now."""
        found = self._cards()
        if self._made is None or self._made[0] != found:
            routes = [*self._others, *self.routes()]
            self._made = found, openapi.document(routes, self._version, found)
        return self._made[1]

    @Operation(TAG, {200: dict[str, Any]}, open=True)
    async def openapi(self, _: Request) -> Response:
        """Return this service's operations as an OpenAPI 3.1 document."""
        return Response(msgspec.json.encode(self._openapi()), media_type=JSON)

    @Operation(TAG, {200: dict[str, Any]}, open=True)
    async def asyncapi(self, _: Request) -> Response:
        """Return the Kafka topics of the pipeline as an AsyncAPI 3 document."""
        document = asyncapi.document(self._settings, self._version)
        return Response(msgspec.json.encode(document), media_type=JSON)

    @Operation(TAG, {200: Content({HTML: str})}, open=True)
    async def page(self, _: Request) -> Response:
        """Return this service's operations as a page for people."""
        page = html.render(self._openapi())
        return Response(page, media_type=HTML, headers={"Content-Security-Policy": POLICY})

    @Operation(TAG, {200: Content({CSS: str})}, open=True)
    async def style(self, _: Request) -> Response:
        """Return the style sheet of the page."""
        return Response(STYLE.read_bytes(), media_type=CSS)
