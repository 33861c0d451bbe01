"""The Open Inference Protocol's routes: health, metadata, inference, repository."""

from importlib.metadata import version
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api import body
from api.errors import BadRequest, TooMuch, TooSlow, Unavailable, UnknownModel
from api.inference import metadata
from api.inference.endpoint import MODELS, PATHS, Infer
from api.inference.metadata import EXTENSIONS, ModelMetadata, ServerMetadata
from api.operation import JSON, Content, Operation
from api.responses import json_response
from api.serving.repository import Entry, Repository

NAME = "petalstream"
HEALTH, REPOSITORY = "Health", "Model repository"
READ_ERRORS = (BadRequest, TooMuch, TooSlow)

Body = TypeVar("Body")


class Health(msgspec.Struct, omit_defaults=True):
    """The body of a health answer; clients go by its status."""

    ready: bool | None = None
    live: bool | None = None
    name: str | None = None


class IndexRequest(msgspec.Struct):
    """The body of a request for the index; `ready`: only what can be asked."""

    ready: bool = False


class Empty(msgspec.Struct):
    """A body that says nothing; the parameters of other servers are ignored."""


class Models:
    """The routes of the models in a repository; they may come and go while it serves."""

    def __init__(self, repository: Repository, infer: Infer) -> None:
        self._repository = repository
        self._infer = infer

    def routes(self) -> list[Route]:
        """What this answers, and where; the routes are tried in this order."""
        repository = "/v2/repository"
        return [
            *self._infer.routes,
            Route("/v2", self.server),
            Route("/v2/", self.server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            *(Route(f"{path}/ready", self.model_ready) for path in PATHS),
            *(Route(path, self.model) for path in PATHS),
            Route(f"{repository}/index", self.index, methods=["POST"]),
            Route(f"{repository}/models/{{model}}/load", self.load, methods=["POST"]),
            Route(f"{repository}/models/{{model}}/unload", self.unload, methods=["POST"]),
        ]

    @Operation(MODELS, {200: ServerMetadata})
    async def server(self, _: Request) -> Response:
        """What this server is."""
        return json_response(ServerMetadata(NAME, version(NAME), EXTENSIONS))

    @Operation(HEALTH, {200: Health}, open=True)
    async def live(self, _: Request) -> Response:
        """That the event loop answers."""
        return json_response(Health(live=True))

    @Operation(HEALTH, {200: Health}, errors=(Unavailable,), open=True)
    async def ready(self, _: Request) -> Response:
        """Whether there is a model to ask."""
        if self._repository.is_empty:
            raise Unavailable("no model is loaded")
        return json_response(Health(ready=True))

    @Operation(HEALTH, {200: Health}, errors=(UnknownModel,))
    async def model_ready(self, request: Request) -> Response:
        """Whether one model can be asked."""
        served = self._repository.find(**_names(request))
        return json_response(Health(ready=True, name=served.card.name))

    @Operation(MODELS, {200: ModelMetadata}, errors=(UnknownModel,))
    async def model(self, request: Request) -> Response:
        """What one model takes and gives."""
        card = self._repository.find(**_names(request)).card
        return json_response(metadata.model(card, self._repository.versions(card.name)))

    @Operation(
        REPOSITORY, {200: list[Entry]}, Content({JSON: IndexRequest}, optional=True), READ_ERRORS
    )
    async def index(self, request: Request) -> Response:
        """Every version of every model, served or not."""
        asked = await _read(request, IndexRequest)
        entries = await self._repository.index()
        return json_response([e for e in entries if e.state == "READY" or not asked.ready])

    @Operation(
        REPOSITORY,
        {200: Empty},
        Content({JSON: Empty}, optional=True),
        (*READ_ERRORS, UnknownModel),
    )
    async def load(self, request: Request) -> Response:
        """Load a model, or load it again."""
        await _read(request, Empty)
        await self._repository.load(request.path_params["model"])
        return json_response(Empty())

    @Operation(
        REPOSITORY,
        {200: Empty},
        Content({JSON: Empty}, optional=True),
        (*READ_ERRORS, UnknownModel),
    )
    async def unload(self, request: Request) -> Response:
        """Serve a model no longer."""
        await _read(request, Empty)
        await self._repository.unload(request.path_params["model"])
        return json_response(Empty())


def _names(request: Request) -> dict[str, str]:
    params = request.path_params
    return {("name" if key == "model" else key): value for key, value in params.items()}


async def _read(request: Request, kind: type[Body]) -> Body:
    """The body of a request to the repository, which may be empty; of any content type."""
    data = await body.receive_all(request.receive, body.seconds_of(request), empty=True)
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise BadRequest(f"not a request to the repository: {e}") from e
