"""The Open Inference Protocol's routes: health, metadata, inference."""

import logging
from collections.abc import Mapping
from importlib import metadata

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api import body, inference
from api.errors import (
    BadRequest,
    RequestError,
    TooMuch,
    TooSlow,
    Unavailable,
    UnknownModel,
    Unprocessable,
    WrongContentType,
    json_response,
)
from api.operation import Operation
from api.served import Served
from model.predict import PredictError

NAME = "petalstream"
HEALTH, MODELS = "Health", "Open Inference Protocol"

logger = logging.getLogger(__name__)


class ServerMetadata(msgspec.Struct):
    """What this server is."""

    name: str
    version: str
    extensions: list[str]


class Health(msgspec.Struct, omit_defaults=True):
    """The body of a health answer; clients go by its status."""

    ready: bool | None = None
    live: bool | None = None
    name: str | None = None


class Models:
    """The routes of `served`, models by name; more may come and go while it serves."""

    def __init__(self, served: Mapping[str, Served], max_rows: int) -> None:
        self._served = served
        self._max_rows = max_rows

    def routes(self) -> list[Route]:
        """What this answers, and where."""
        server = [
            Route("/v2", self.server),
            Route("/v2/", self.server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
        ]
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            server += [
                Route(f"{model}/infer", self.infer, methods=["POST"]),
                Route(f"{model}/ready", self.model_ready),
                Route(model, self.model),
            ]
        return server

    @Operation(
        MODELS,
        body=inference.InferenceRequest,
        answers={200: inference.InferenceResponse},
        errors=(BadRequest, UnknownModel, TooSlow, TooMuch, WrongContentType, Unprocessable),
    )
    async def infer(self, request: Request) -> Response:
        """Answer one inference request."""
        served = self._find(request)
        try:
            answer = await self._answer(served, await body.read(request))
        except RequestError:
            served.metrics.failed()
            raise
        served.metrics.succeeded()
        return json_response(answer)

    async def _answer(self, served: Served, data: bytes) -> inference.InferenceResponse:
        question = inference.parse(data, served.card, self._max_rows)
        try:
            prediction = await served.predict(question.X)
        except PredictError as e:
            logger.warning("%s cannot answer: %s", served.card.id, e)
            raise Unprocessable("the model cannot answer for these rows") from e
        return inference.respond(question, prediction, served.card)

    @Operation(MODELS, {200: ServerMetadata})
    async def server(self, _: Request) -> Response:
        """What this server is."""
        return json_response(ServerMetadata(NAME, metadata.version(NAME), []))

    @Operation(HEALTH, {200: Health}, open=True)
    async def live(self, _: Request) -> Response:
        """That the event loop answers."""
        return json_response(Health(live=True))

    @Operation(HEALTH, {200: Health}, errors=(Unavailable,), open=True)
    async def ready(self, _: Request) -> Response:
        """Whether there is a model to ask."""
        if not self._served:
            raise Unavailable("no model is loaded")
        return json_response(Health(ready=True))

    @Operation(HEALTH, {200: Health}, errors=(UnknownModel,))
    async def model_ready(self, request: Request) -> Response:
        """Whether one model can be asked."""
        return json_response(Health(ready=True, name=self._find(request).card.name))

    @Operation(MODELS, {200: inference.ModelMetadata}, errors=(UnknownModel,))
    async def model(self, request: Request) -> Response:
        """What one model takes and gives."""
        return json_response(inference.metadata(self._find(request).card))

    def _find(self, request: Request) -> Served:
        name: str = request.path_params["model"]
        served = self._served.get(name)
        if served is None:
            raise UnknownModel(name)
        version = request.path_params.get("version")
        if version not in (None, inference.version(served.card)):
            raise UnknownModel(f"{name}@{version}")
        return served
