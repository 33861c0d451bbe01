"""The inference endpoint, in plain ASGI: Request and Response would cost a quarter of its time.

So would Starlette's routing and exception handling, which the middleware bypasses for it.
"""

import logging
import time
from typing import Any, NamedTuple

from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from api import body
from api.coding import is_gzip
from api.errors import (
    BadRequest,
    RequestError,
    TooMuch,
    TooSlow,
    Unavailable,
    UnknownModel,
    Unprocessable,
    WrongContentType,
)
from api.inference.request import InferenceRequest, ParsedRequest, example, parse
from api.inference.response import EncodedResponse, InferenceResponse
from api.inference.servable import Servable
from api.operation import CODING, JSON, Content, Operation
from api.serving.repository import Repository
from model.errors import PredictError

MODELS = "Open Inference Protocol"
PATHS = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
JSON_SIZE_NAME = "Inference-Header-Content-Length"
JSON_SIZE = JSON_SIZE_NAME.lower().encode()
REQUEST_SIZE = "bytes of the body that are JSON; binary data follows them"
RESPONSE_SIZE = "bytes of the body that are JSON, if binary data follows them"
BINARY = "application/octet-stream"
TYPE_JSON, TYPE_BINARY = (b"content-type", body.JSON), (b"content-type", body.BINARY)

logger = logging.getLogger(__name__)


class Headers(NamedTuple):
    """The headers that an inference needs; `json_size` None: the whole body is JSON."""

    length: bytes
    json_size: int | None
    compressed: bool


def path_params(scope: Scope) -> dict[str, str] | None:
    """The model, and the version if there is one, of an inference; None for any other path."""
    if scope["method"] != "POST" or scope.get("root_path"):
        return None
    match scope["path"].split("/"):
        case ["", "v2", "models", model, "infer"] if model:
            return {"model": model}
        case ["", "v2", "models", model, "versions", version, "infer"] if model and version:
            return {"model": model, "version": version}
    return None


class InferenceEndpoint:
    """Predict rows.

    An outlier detector has an output `score`, below 0 for an outlier. A value unlike the training
    data is answered, and `warnings` in the response's `parameters` name its feature.

    The header `Inference-Header-Content-Length` gives the number of bytes of the body that are
    JSON. The data of the tensors that have a `binary_data_size` follow it, in order.
    """

    operation = Operation(
        MODELS,
        {200: Content({JSON: InferenceResponse, BINARY: bytes}, {JSON_SIZE_NAME: RESPONSE_SIZE})},
        Content({JSON: InferenceRequest, BINARY: bytes}, examples={JSON: example}),
        (
            BadRequest, UnknownModel, TooSlow, TooMuch, WrongContentType, Unprocessable,
            Unavailable,
        ),
        headers={JSON_SIZE_NAME: REQUEST_SIZE, **CODING},
    )  # fmt: skip

    def __init__(
        self, repository: Repository[Servable], max_rows: int, body_seconds: float
    ) -> None:
        """`body_seconds`: how long the body of a request may take to arrive."""
        self._repository = repository
        self.max_rows = max_rows
        self._body_seconds = body_seconds
        self.routes = tuple(Route(f"{path}/infer", self, methods=["POST"]) for path in PATHS)

    def takes(self, scope: Scope) -> bool:
        """Whether a request is an inference; if so, set its path parameters and its route."""
        names = path_params(scope)
        if names is None:
            return False
        scope["path_params"] = names
        scope["route"] = self.routes[len(names) - 1]
        return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request with a model of the repository; raises RequestError."""
        # Held until the answer, so requests in progress finish on a model that is unloaded.
        params = scope["path_params"]
        received = time.perf_counter()
        servable = self._repository.find(params["model"], params.get("version"))
        try:
            servable.batcher.check_room()
            headers = read_headers(scope["headers"])
            data = await body.receive_all(receive, self._body_seconds, headers.length)
            received = time.perf_counter()
            json_size = headers.json_size
            if headers.compressed or not data.startswith(b'{"'):
                data, json_size = decode(data, headers)
            request = self._parse(servable, data, json_size)
            decoded = time.perf_counter()
            prediction = await servable.batcher.submit(request.X)
            predicted = time.perf_counter()
        except ClientDisconnect:
            return
        except (RequestError, PredictError) as e:
            servable.metrics.failed(time.perf_counter() - received)
            if isinstance(e, RequestError):
                raise
            logger.warning("%s cannot answer: %s", servable.card.id, e)
            raise Unprocessable("the model cannot answer for these rows", e.code) from e
        warnings = servable.ranges.of(request.X)
        response = servable.encoder.encode(request, prediction, warnings)
        encoded = time.perf_counter()
        rows = len(prediction.y)
        servable.metrics.answered(rows, received, decoded, predicted, encoded)
        await send(_start(response))
        await send({"type": "http.response.body", "body": response.body})

    def _parse(self, servable: Servable, data: bytes, json_size: int | None) -> ParsedRequest:
        if json_size is None and (usual := servable.fast_parser.parse(data, self.max_rows)):
            return usual
        return parse(data, servable.card, self.max_rows, json_size)


def read_headers(headers: list[tuple[bytes, bytes]]) -> Headers:
    """The headers of an inference request; raises WrongContentType or BadRequest."""
    length, json_size, compressed = b"", None, False
    for name, value in headers:  # ASGI: the names are in lower case
        if name == b"content-length":
            length = value
        elif name == b"content-type":
            body.check_type(value, (body.JSON, body.BINARY))
        elif name == b"content-encoding":
            compressed = is_gzip(*(v for n, v in headers if n == b"content-encoding"))
        elif name == JSON_SIZE:
            if not value.isdigit() or len(value) > 12:
                raise BadRequest("Inference-Header-Content-Length must be a number of bytes")
            json_size = int(value)
    return Headers(length, json_size, compressed)


def decode(data: bytes, headers: Headers) -> tuple[bytes, int | None]:
    """A body without compression and byte order mark, and the size of its JSON without that mark.

    Raises BadRequest or BodyTooLarge.
    """
    whole = body.decompress(data) if headers.compressed else data
    plain = body.skip_bom(whole)
    json_size = headers.json_size
    return plain, json_size and json_size - (len(whole) - len(plain))


def _start(response: EncodedResponse) -> dict[str, Any]:
    headers = [(b"content-length", b"%d" % len(response.body))]
    if response.json_size is None:
        headers.append(TYPE_JSON)
    else:
        headers += [TYPE_BINARY, (JSON_SIZE, b"%d" % response.json_size)]
    return {"type": "http.response.start", "status": 200, "headers": headers}
