"""Where one row is predicted: in this process, over REST, or in the queue; with equal answers."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Self
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

        model, self._loaded_card = artifact.load(self._chosen.path)
        self._predict = predictor(model, self._loaded_card)
        return self

    async def ask(self, row: list[Value], timeout: float) -> Answer:  # noqa: ARG002
        from model.predict import matrix

        card = self._loaded_card
        y, proba, score = self._predict(matrix([row], card.numeric))
        return output.from_prediction(y, proba, card.classes, card.id, score=score)


class _Tensor(msgspec.Struct):
    """An output tensor; `data` is flat."""

    name: str
    data: list[Label]


class _Response(msgspec.Struct):
    """A response of the Open Inference Protocol; other fields are ignored."""

    model_name: str
    model_version: str
    outputs: list[_Tensor]


class _ErrorResponse(msgspec.Struct):
    """An error of the Open Inference Protocol; other servers have no `code`."""

    error: str
    code: str | None = None


class RestBackend(_Backend):
    """The Open Inference Protocol over HTTP."""

    async def __aenter__(self) -> Self:
        import aiohttp

        key = self._settings.api_key
        headers = {"Authorization": f"Bearer {key}"} if key else None
        self._session = aiohttp.ClientSession(headers=headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, row: list[Value], timeout: float) -> Answer:
        import aiohttp

        url = f"{self._settings.api_url.rstrip('/')}/v2/models/{self._place()}/infer"
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with self._session.post(url, json=self._request(row), timeout=limit) as got:
                return self._read(got.status, await got.read())
        except TimeoutError as e:
            raise ServiceUnavailable(f"{url} did not answer within {timeout:g} s") from e
        except (aiohttp.ClientError, OSError) as e:
            raise ServiceUnavailable(
                f"no service at {self._settings.api_url}; start it: petal up, or petal api"
            ) from e

    def _place(self) -> str:
        name, version = quote(self._card.name, safe=""), self._chosen.version
        return name if version is None else f"{name}/versions/{quote(version, safe='')}"

    def _request(self, row: list[Value]) -> dict[str, Any]:
        if self._card.numeric:
            tensor = {"name": "X", "shape": [1, len(row)], "datatype": "FP64", "data": row}
            return {"inputs": [tensor]}
        return {
            "inputs": [
                {
                    "name": feature.name,
                    "shape": [1, 1],
                    "datatype": "BYTES" if feature.type == "text" else "FP64",
                    "data": [float(value) if isinstance(value, bool) else value],
                }
                for feature, value in zip(self._card.features, row, strict=True)
            ]
        }

    def _read(self, status: int, body: bytes) -> Answer:
        if status == 503:
            raise ServiceUnavailable(
                "503 Service Unavailable: the service is busy; let the task wait in a queue "
                "instead: --via queue"
            )
        if status == 401:
            raise RequestRefused(
                "the service requires an API key; set PETAL_API_KEY to a valid one", "HTTP 401"
            )
        try:
            if status != 200:
                refused = msgspec.json.decode(body, type=_ErrorResponse)
                raise RequestRefused(refused.error, refused.code or f"HTTP {status}")
            return self._answer(msgspec.json.decode(body, type=_Response))
        except (msgspec.DecodeError, KeyError, ValueError) as e:
            raise ServiceUnavailable(
                f"{self._settings.api_url} answered {status}, and not in the Open Inference "
                "Protocol; check PETAL_API_URL"
            ) from e

    def _answer(self, got: _Response) -> Answer:
        outputs = {output.name: output.data for output in got.outputs}
        classes = self._card.classes
        [label] = outputs["predict"]
        proba = None
        if "predict_proba" in outputs:  # other servers of the protocol may not send it
            proba = [float(p) for _, p in zip(classes, outputs["predict_proba"], strict=True)]
        model = f"{got.model_name}@{got.model_version}"
        y, probas = [_typed(label, classes)], None if proba is None else [proba]
        return output.from_prediction(y, probas, classes, model, score=outputs.get("score"))


def _typed(label: Any, classes: tuple[Any, ...]) -> Any:
    """The class with this name: the protocol sends every label as text."""
    return next((c for c in classes if str(c) == str(label)), label)


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
