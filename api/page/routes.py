"""The page at `/`: its files, and the cards from which it makes its form."""

import hashlib
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.errors import NotFound
from api.operation import Content, Operation
from api.page.form import ModelForm, form_of
from api.responses import json_response
from model.card import Card

TAG = "Page"
FOLDER = Path(__file__).with_name("static")
INDEX = "index.html"
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
# No inline script or style, and nothing from another address.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",  # a browser asks each time, and gets 304 by the ETag
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class File(NamedTuple):
    """A file of the page."""

    content: bytes
    media: str
    etag: str


def read_files(folder: Path) -> Mapping[str, File]:
    """The files of a folder, by name."""
    return {path.name: _read(path) for path in folder.iterdir() if path.suffix in TYPES}


def _read(path: Path) -> File:
    content = path.read_bytes()
    return File(content, TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:16]}"')


class Page:
    """The routes of the page; `cards` are those of the models that are served."""

    def __init__(self, cards: Callable[[], list[Card]]) -> None:
        self._cards = cards

    @cached_property
    def _files(self) -> Mapping[str, File]:
        return read_files(FOLDER)

    def routes(self) -> list[Route]:
        return [
            Route("/", self.index),
            Route("/static/{name}", self.file),
            Route("/forms", self.forms),
        ]

    @Operation(TAG, {200: Content({TYPES[".html"]: str}), 304: None}, open=True)
    async def index(self, request: Request) -> Response:
        """Return the page that shows the pipeline, asks it, and looks results up."""
        return _response(self._files[INDEX], request)

    @Operation(
        TAG,
        {200: Content(dict.fromkeys(TYPES.values(), str)), 304: None},
        errors=(NotFound,),
        open=True,
    )
    async def file(self, request: Request) -> Response:
        """Return a file of the page."""
        found = self._files.get(request.path_params["name"])
        if found is None:
            raise NotFound("the page has no such file")
        return _response(found, request)

    @Operation(TAG, {200: list[ModelForm]})
    async def forms(self, _: Request) -> Response:
        """List what a form asks for each model that is served, the default first."""
        return json_response([form_of(card) for card in self._cards()])


def _response(file: File, request: Request) -> Response:
    headers = {**HEADERS, "ETag": file.etag}
    given = request.headers.get("if-none-match", "")
    if file.etag in (tag.strip().removeprefix("W/") for tag in given.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media, headers=headers)
