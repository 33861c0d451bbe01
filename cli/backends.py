"""Where one row is predicted: in this process, over REST, or in the queue; with equal answers."""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from itertools import chain
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import msgspec

from cli import output
from cli.input.model import Chosen, choose_model
from cli.output import Answer
from infra.config import Settings
from model.card import Card, Label, Value

LOCAL, REST, TOPIC, QUEUE = "local", "rest", "topic", "queue"
CONNECT_SECONDS = 5.0


class RequestRefused(Exception):
    """The REST service or a worker refused the row, with a stable `code`."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class ServiceUnavailable(Exception):
    """The REST service is busy or does not answer."""


class ServiceBusy(ServiceUnavailable):
    """The service asks to come again, in so many seconds if it says so."""

    def __init__(self, message: str, seconds: float | None) -> None:
        super().__init__(message)
        self.seconds = seconds


class Predicted(NamedTuple):
    """What a service answers to rows, as `model.predict.Prediction`, and its model."""

    y: list[Any]
    proba: list[list[float]] | None
    score: list[float] | None
    model: str
    warnings: list[Any] | None = None


class _Backend:
    """What all have in common; by default there is nothing to open or to close."""

    def __init__(self, settings: Settings, chosen: Chosen) -> None:
        self._settings = settings
        self._card = chosen.card
        self._chosen = chosen

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def report_interrupt(self) -> None:
        """Say how to go on after Ctrl-C, if a task was sent."""


class LocalBackend(_Backend):
    """The model in this process."""

    async def __aenter__(self) -> Self:
        from model import artifact
        from model.predict import predictor
        from model.values.ranges import Ranges

        model, self._loaded_card = artifact.load(self._chosen.path)
        self._predict = predictor(model, self._loaded_card)
        self._ranges = Ranges(self._loaded_card)
        return self

    async def ask(self, row: list[Value], timeout: float) -> Answer:  # noqa: ARG002
        from model.predict import matrix

        card = self._loaded_card
        X = matrix([row], card.numeric)
        y, proba, score = self._predict(X)
        warnings = msgspec.to_builtins(self._ranges.of(X))
        return output.from_prediction(
            y, proba, card.classes, card.id, score=score, warnings=warnings
        )


class _Tensor(msgspec.Struct):
    """An output tensor; `data` is flat."""

    name: str
    data: list[Label]


class _Response(msgspec.Struct):
    """A response of the Open Inference Protocol; other fields are ignored."""

    model_name: str
    model_version: str
    outputs: list[_Tensor]
    parameters: dict[str, Any] = {}


class _ErrorResponse(msgspec.Struct):
    """An error of the Open Inference Protocol; other servers have no `code`."""

    error: str
    code: str | None = None


class RestBackend(_Backend):
    """The Open Inference Protocol over HTTP."""

    async def __aenter__(self) -> Self:
        import aiohttp

        key = self._settings.api_key.reveal()
        headers = {"Authorization": f"Bearer {key}"} if key else None
        self._session = aiohttp.ClientSession(headers=headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, row: list[Value], timeout: float) -> Answer:
        y, proba, score, model, warnings = await self.predict([row], timeout)
        return output.from_prediction(
            y, proba, self._card.classes, model, score=score, warnings=warnings
        )

    async def predict(self, rows: Sequence[Sequence[Value]], timeout: float) -> Predicted:
        """The answers to valid rows; raises RequestRefused, ServiceBusy or ServiceUnavailable."""
        import aiohttp

        url = f"{self._settings.api_url.rstrip('/')}/v2/models/{self._place()}/infer"
        limit = aiohttp.ClientTimeout(total=timeout)
        body = _encoded(self._request(rows))
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(url, data=body, headers=headers, timeout=limit) as got:
                wait = _seconds(got.headers.get("Retry-After", ""))
                return self._read(got.status, await got.read(), len(rows), wait)
        except TimeoutError as e:
            raise ServiceUnavailable(f"{url} did not answer within {timeout:g} s") from e
        except (aiohttp.ClientError, OSError) as e:
            raise ServiceUnavailable(
                f"no service at {self._settings.api_url}; start it: petal up, or petal api"
            ) from e

    def _place(self) -> str:
        name, version = quote(self._card.name, safe=""), self._chosen.version
        return name if version is None else f"{name}/versions/{quote(version, safe='')}"

    def _request(self, rows: Sequence[Sequence[Value]]) -> dict[str, Any]:
        features = self._card.features
        if self._card.numeric:
            flat = list(chain.from_iterable(rows))
            shape = [len(rows), len(rows[0])]  # a row that is too short is refused as such
            return {"inputs": [{"name": "X", "shape": shape, "datatype": "FP64", "data": flat}]}
        return {
            "inputs": [
                {
                    "name": feature.name,
                    "shape": [len(rows), 1],
                    "datatype": "BYTES" if feature.is_text else "FP64",
                    "data": [float(v) if isinstance(v, bool) else v for v in column],
                }
                for feature, column in zip(features, zip(*rows, strict=True), strict=True)
            ]
        }

    def _read(self, status: int, body: bytes, rows: int, wait: float | None) -> Predicted:
        if status == 503:
            raise ServiceBusy(
                "503 Service Unavailable: the service is busy; let the task wait in a queue "
                "instead: --via queue",
                wait,
            )
        if status == 429:
            raise ServiceBusy("429 Too Many Requests: the API key has reached its rate", wait)
        if status == 401:
            raise RequestRefused(
                "the service requires an API key; set PETAL_API_KEY to a valid one", "HTTP 401"
            )
        try:
            if status != 200:
                refused = msgspec.json.decode(body, type=_ErrorResponse)
                raise RequestRefused(refused.error, refused.code or f"HTTP {status}")
            return self._predicted(msgspec.json.decode(body, type=_Response), rows)
        except (msgspec.DecodeError, KeyError, ValueError) as e:
            raise ServiceUnavailable(
                f"{self._settings.api_url} answered {status}, and not in the Open Inference "
                "Protocol; check PETAL_API_URL"
            ) from e

    def _predicted(self, got: _Response, rows: int) -> Predicted:
        outputs = {output.name: output.data for output in got.outputs}
        labels = {str(c): c for c in reversed(self._card.classes)}
        # The protocol sends every label as text.
        y = [labels.get(str(label), label) for label in outputs["predict"]]
        proba = None
        if "predict_proba" in outputs:  # other servers of the protocol may not send it
            flat = list(map(float, outputs["predict_proba"]))
            width = len(self._card.classes)
            if len(flat) != rows * width:
                raise ValueError("another number of probabilities")
            proba = [flat[n : n + width] for n in range(0, len(flat), width)]
        score = list(map(float, outputs["score"])) if "score" in outputs else None
        if len(y) != rows or (score is not None and len(score) != rows):
            raise ValueError("another number of answers")
        model = f"{got.model_name}@{got.model_version}"
        return Predicted(y, proba, score, model, got.parameters.get("warnings"))


def _encoded(request: dict[str, Any]) -> bytes:
    body = msgspec.json.encode(request)
    # msgspec writes infinity as a missing value; written as Infinity, the service refuses it.
    return json.dumps(request).encode() if b"null" in body else body


def _seconds(text: str) -> float | None:
    """The seconds of a header Retry-After; None if it has none."""
    return float(text) if text.isdecimal() else None


class QueueBackend(_Backend):
    """The task queue: publish the task and await its own result."""

    _sent: str | None = None  # the id of the task that waits

    async def __aenter__(self) -> Self:
        from streams.client import Client

        self._client = Client(self._settings)
        await self._client.start(wait=CONNECT_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.stop()

    def report_interrupt(self) -> None:
        if self._sent is not None:
            output.report_interrupt(self._sent)

    @contextmanager
    def _sending(self) -> Iterator[str]:
        """A new task id. Ctrl-C within the block prints the command that waits for this task."""
        from streams.events import new_id

        self._sent = new_id()
        try:
            yield self._sent
        except asyncio.CancelledError:
            self.report_interrupt()
            raise
        finally:
            self._sent = None

    async def ask(self, row: list[Value], timeout: float) -> Answer:
        with self._sending() as task_id:
            result = await self._client.ask([row], timeout, task_id, self._chosen.reference)
        if result.error is not None:
            raise RequestRefused(result.error.message, result.error.code)
        return output.from_document(msgspec.to_builtins(result), self._card.classes)


class TopicBackend(QueueBackend):
    """The message queue: only publish the task. The label is the task id."""

    async def ask(self, row: list[Value], timeout: float) -> Answer:  # noqa: ARG002
        with self._sending() as task_id:
            sent = await self._client.submit([row], task_id, self._chosen.reference)
        return Answer(sent.id, None, sent._asdict())


Backend = LocalBackend | RestBackend | TopicBackend | QueueBackend
BACKENDS: dict[str, type[Backend]] = {
    LOCAL: LocalBackend,
    REST: RestBackend,
    TOPIC: TopicBackend,
    QUEUE: QueueBackend,
}


def choose(name: str, settings: Settings, model: str | None = None) -> tuple[Backend, Card]:
    """A backend, to be used as an async context manager, and the card of its model.

    `model` is the option of that name. Raises NotServed, CardError or ArtifactError.
    """
    chosen = choose_model(settings, model)
    return BACKENDS[name](settings, chosen), chosen.card


def ask_all(
    backend: Backend, rows: Iterable[list[Value]], timeout: float, show: Callable[[Answer], None]
) -> None:
    """Show the answer to each valid row as it comes; raises the errors of the backend."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            async with output.waiting("connecting"):
                await stack.enter_async_context(backend)
            for row in rows:
                async with output.waiting("waiting for the answer"):
                    answer = await backend.ask(row, timeout)
                show(answer)

    asyncio.run(run())
