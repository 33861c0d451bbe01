"""The inference endpoint, plain ASGI: a Request and a Response would cost a quarter of its time.

So would Starlette's routing and its handling of exceptions, past which the Shortcut leads.
"""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

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
    refusal,
)
from api.inference import InferenceRequest, InferenceResponse, Reply
from api.operation import JSON, Content, Operation
from api.repository import Repository
from api.served import Served
from model.predict import PredictError

MODELS = "Open Inference Protocol"
JSON_SIZE = b"inference-header-content-length"
BINARY = "application/octet-stream"

logger = logging.getLogger(__name__)


class Headers(NamedTuple):
    """What matters of a request's headers; `json_size` None: the whole body is JSON."""

    length: bytes
    json_size: int | None


class Shortcut:
    """ASGI middleware, the innermost: takes a plain `POST …/infer`, leaves all else to the rest."""

    def __init__(self, app: ASGIApp, infer: ASGIApp, routes: Sequence[Route]) -> None:
        """`routes`: those of an inference without a version, and with one."""
        self._app = app
        self._infer = infer
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an inference, or pass on."""
        names = path_params(scope) if scope["type"] == "http" else None
        if names is None:
            await self._app(scope, receive, send)
            return
        scope["path_params"] = names
        scope["route"] = self._routes[len(names) - 1]
        try:
            await self._infer(scope, receive, send)
        except RequestError as e:
            await refusal(e)(scope, receive, send)


def path_params(scope: Scope) -> dict[str, str] | None:
    """Model, and version where one is named, of an inference; None for any other request."""
    if scope["method"] != "POST" or scope.get("root_path"):
        return None
    match scope["path"].split("/"):
        case ["", "v2", "models", model, "infer"] if model:
            return {"model": model}
        case ["", "v2", "models", model, "versions", version, "infer"] if model and version:
            return {"model": model, "version": version}
    return None


class Infer:
    """Predict rows.

    With `Inference-Header-Content-Length` so many bytes of the body are JSON, and the data of
    the tensors that have a `binary_data_size` follow it, in order.
    """

    operation = Operation(
        MODELS,
        {200: Content({JSON: InferenceResponse, BINARY: bytes})},
        Content({JSON: InferenceRequest, BINARY: bytes}),
        (
            BadRequest, UnknownModel, TooSlow, TooMuch, WrongContentType, Unprocessable,
            Unavailable,
        ),
    )  # fmt: skip

    def __init__(self, repository: Repository, max_rows: int, seconds: float) -> None:
        """`seconds`: that a request's body may take."""
        self._repository = repository
        self._max_rows = max_rows
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request with a model of the repository."""
        # Held until the answer, so a model that is unloaded meanwhile still gives it.
        params = scope["path_params"]
        served = self._repository.find(params["model"], params.get("version"))
        try:
            reply = await self._answer(served, scope["headers"], receive)
        except RequestError:
            served.metrics.failed()
            raise
        except ClientDisconnect:
            return
        served.metrics.succeeded()
        await send(_start(reply))
        await send({"type": "http.response.body", "body": reply.body})

    async def _answer(
        self, served: Served, sent: list[tuple[bytes, bytes]], receive: Receive
    ) -> Reply:
        served.batcher.check_room()
        headers = read_headers(sent)
        data = await body.receive_all(receive, self._seconds, headers.length)
        question = inference.parse(data, served.card, self._max_rows, headers.json_size)
        try:
            prediction = await served.batcher.submit(question.X)
        except PredictError as e:
            logger.warning("%s cannot answer: %s", served.card.id, e)
            raise Unprocessable("the model cannot answer for these rows") from e
        return inference.respond(question, prediction, served.card, served.version)


def read_headers(headers: list[tuple[bytes, bytes]]) -> Headers:
    """The headers of an inference request; raises WrongContentType or BadRequest."""
    length, json_size = b"", None
    for name, value in headers:  # ASGI: the names are in lower case
        if name == b"content-length":
            length = value
        elif name == b"content-type":
            body.check_type(value, (body.JSON, body.BINARY))
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise WrongContentType("the body must not be compressed")
        elif name == JSON_SIZE:
            if not value.isdigit() or len(value) > 12:
                raise BadRequest("Inference-Header-Content-Length must be a number of bytes")
            json_size = int(value)
    return Headers(length, json_size)


def _start(reply: Reply) -> dict[str, Any]:
    headers = [(b"content-length", b"%d" % len(reply.body))]
    if reply.json_size is None:
        headers.append((b"content-type", body.JSON))
    else:
        headers.append((b"content-type", body.BINARY))
        headers.append((JSON_SIZE, b"%d" % reply.json_size))
    return {"type": "http.response.start", "status": 200, "headers": headers}
