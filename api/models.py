"""The Open Inference Protocol's routes: health, metadata, inference, repository."""

from importlib.metadata import version
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api import body, metadata
from api.errors import BadRequest, Unavailable, json_response
from api.infer import Infer
from api.metadata import EXTENSIONS, ServerMetadata
from api.repository import Repository

NAME = "petalstream"

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

    def __init__(self, repository: Repository, max_rows: int) -> None:
        self._repository = repository
        self.infer = Infer(repository, max_rows)

    def routes(self) -> list[Route]:
        """What this answers, and where; the routes are tried in this order."""
        model, repository = "/v2/models/{model}", "/v2/repository"
        version = f"{model}/versions/{{version}}"
        return [
            Route(f"{model}/infer", self.infer, methods=["POST"]),
            Route(f"{version}/infer", self.infer, methods=["POST"]),
            Route("/v2", self.server),
            Route("/v2/", self.server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            *(Route(f"{path}/ready", self.model_ready) for path in (model, version)),
            *(Route(path, self.model) for path in (model, version)),
            Route(f"{repository}/index", self.index, methods=["POST"]),
            Route(f"{repository}/models/{{model}}/load", self.load, methods=["POST"]),
            Route(f"{repository}/models/{{model}}/unload", self.unload, methods=["POST"]),
        ]

    async def server(self, _: Request) -> Response:
        """What this server is."""
        return json_response(ServerMetadata(NAME, version(NAME), EXTENSIONS))

    async def live(self, _: Request) -> Response:
        """That the event loop answers."""
        return json_response(Health(live=True))

    async def ready(self, _: Request) -> Response:
        """Whether there is a model to ask."""
        if self._repository.is_empty:
            raise Unavailable("no model is loaded")
        return json_response(Health(ready=True))

    async def model_ready(self, request: Request) -> Response:
        """Whether one model can be asked."""
        served = self._repository.find(**_names(request))
        return json_response(Health(ready=True, name=served.card.name))

    async def model(self, request: Request) -> Response:
        """What one model takes and gives."""
        card = self._repository.find(**_names(request)).card
        return json_response(metadata.model(card, self._repository.versions(card.name)))

    async def index(self, request: Request) -> Response:
        """Every version of every model, served or not."""
        asked = await _read(request, IndexRequest)
        entries = [e._asdict() for e in await self._repository.index()]
        wanted = [e for e in entries if e["state"] == "READY" or not asked.ready]
        return json_response(wanted)

    async def load(self, request: Request) -> Response:
        """Load a model, or load it again."""
        await _read(request, Empty)
        await self._repository.load(request.path_params["model"])
        return json_response(Empty())

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
    data = await body.receive_all(request.receive, empty=True)
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise BadRequest(f"not a request to the repository: {e}") from e
