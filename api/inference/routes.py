"""The Open Inference Protocol's routes: health, metadata, inference, repository."""

from collections.abc import Callable
from importlib.metadata import version
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api import body
from api.errors import (
    BadRequest,
    NotLoaded,
    TooMuch,
    TooSlow,
    Unavailable,
    UnknownModel,
    WrongContentType,
)
from api.inference.configuration import ModelConfiguration, configuration
from api.inference.endpoint import MODELS, PATHS, InferenceEndpoint
from api.inference.metadata import EXTENSIONS, ModelMetadata, ServerMetadata, model_metadata
from api.inference.servable import Servable
from api.inference.statistics import Statistics, statistics
from api.operation import JSON, Content, Operation
from api.responses import json_response
from api.serving.repository import IndexEntry, Repository

NAME = "petalstream"
HEALTH, REPOSITORY = "Health", "Model repository"
READ_ERRORS = (BadRequest, TooMuch, TooSlow, WrongContentType)

Body = TypeVar("Body")


class Health(msgspec.Struct, omit_defaults=True):
    """The body of a health response; clients need only its status.

    `tasks`: why the broker refuses this service, which predicts all the same.
    """

    ready: bool | None = None
    live: bool | None = None
    name: str | None = None
    tasks: str | None = None


class IndexRequest(msgspec.Struct):
    """The body of a request for the index; `ready`: only the loaded versions."""

    ready: bool = False


class Empty(msgspec.Struct):
    """An empty body; the parameters of other servers are ignored."""


NO_PARAMETERS = Content({JSON: Empty}, optional=True, examples={JSON: lambda _: {}})


class Models:
    """The routes of the models in a repository, which may change while it serves."""

    def __init__(
        self,
        repository: Repository[Servable],
        endpoint: InferenceEndpoint,
        refusal: Callable[[], str | None],
    ) -> None:
        """`refusal`: why the task queue refuses this service, if it does."""
        self._repository = repository
        self._endpoint = endpoint
        self._refusal = refusal

    def routes(self) -> list[Route]:
        """The routes, in the order in which Starlette tries them."""
        repository = "/v2/repository"
        return [
            *self._endpoint.routes,
            Route("/v2", self.server),
            Route("/v2/", self.server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            *(Route(f"{path}/ready", self.model_ready) for path in PATHS),
            *(Route(f"{path}/config", self.config) for path in PATHS),
            *(Route(f"{path}/stats", self.model_stats) for path in PATHS),
            Route("/v2/models/stats", self.stats),  # before the model of that name
            *(Route(path, self.model) for path in PATHS),
            Route(f"{repository}/index", self.index, methods=["POST"]),
            Route(f"{repository}/models/{{model}}/load", self.load, methods=["POST"]),
            Route(f"{repository}/models/{{model}}/unload", self.unload, methods=["POST"]),
        ]

    @Operation(MODELS, {200: ServerMetadata})
    async def server(self, _: Request) -> Response:
        """Get the name, version and extensions of the server."""
        return json_response(ServerMetadata(NAME, version(NAME), EXTENSIONS))

    @Operation(HEALTH, {200: Health}, open=True)
    async def live(self, _: Request) -> Response:
        """Check that the service runs."""
        return json_response(Health(live=True))

    @Operation(HEALTH, {200: Health}, errors=(Unavailable,), open=True)
    async def ready(self, _: Request) -> Response:
        """Check that at least one model is loaded."""
        if self._repository.is_empty:
            raise Unavailable("no model is loaded")
        return json_response(Health(ready=True, tasks=self._refusal()))

    @Operation(HEALTH, {200: Health}, errors=(UnknownModel, NotLoaded))
    async def model_ready(self, request: Request) -> Response:
        """Check that this model is loaded."""
        return json_response(Health(ready=True, name=self._find(request).card.name))

    @Operation(MODELS, {200: ModelMetadata}, errors=(UnknownModel, NotLoaded))
    async def model(self, request: Request) -> Response:
        """Get the inputs and outputs of a model."""
        card = self._find(request).card
        return json_response(model_metadata(card, self._repository.versions(card.name)))

    @Operation(MODELS, {200: ModelConfiguration}, errors=(UnknownModel, NotLoaded))
    async def config(self, request: Request) -> Response:
        """Get the configuration of a model, as Triton has it."""
        return json_response(configuration(self._find(request).card, self._endpoint.max_rows))

    @Operation(MODELS, {200: Statistics}, errors=(UnknownModel, NotLoaded))
    async def model_stats(self, request: Request) -> Response:
        """Get the counts and times of a model's requests, of one version or of each."""
        found = self._find(request)
        if "version" in request.path_params:
            return json_response(statistics([found]))
        versions = self._repository.versions(found.card.name)
        each = [self._repository.find(found.card.name, version) for version in versions]
        return json_response(statistics(each))

    @Operation(MODELS, {200: Statistics})
    async def stats(self, _: Request) -> Response:
        """Get the counts and times of the requests of every loaded model."""
        return json_response(statistics(self._repository.served()))

    @Operation(
        REPOSITORY,
        {200: list[IndexEntry]},
        Content({JSON: IndexRequest}, optional=True, examples={JSON: lambda _: {"ready": True}}),
        (*READ_ERRORS, Unavailable),
    )
    async def index(self, request: Request) -> Response:
        """List every version of every model, loaded or not."""
        wanted = await _read(request, IndexRequest)
        entries = await self._repository.index()
        return json_response([e for e in entries if e.state == "READY" or not wanted.ready])

    @Operation(
        REPOSITORY,
        {200: Empty},
        NO_PARAMETERS,
        (*READ_ERRORS, UnknownModel, Unavailable),
    )
    async def load(self, request: Request) -> Response:
        """Load or reload a model."""
        await _read(request, Empty)
        await self._repository.load(request.path_params["model"])
        return json_response(Empty())

    @Operation(
        REPOSITORY,
        {200: Empty},
        NO_PARAMETERS,
        (*READ_ERRORS, UnknownModel),
    )
    async def unload(self, request: Request) -> Response:
        """Unload a model."""
        await _read(request, Empty)
        await self._repository.unload(request.path_params["model"])
        return json_response(Empty())

    def _find(self, request: Request) -> Servable:
        params = request.path_params
        return self._repository.find(params["model"], params.get("version"))


async def _read(request: Request, kind: type[Body]) -> Body:
    """The body of a request to the repository, which may be empty."""
    # Triton's client for asyncio sends text, and some clients name bytes what is empty. Pages can
    # send text too, but the check of their origin refuses them.
    data = await body.read(request, (body.JSON, body.TEXT, body.BINARY), empty=True)
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise BadRequest(f"not a repository request: {e}") from e
