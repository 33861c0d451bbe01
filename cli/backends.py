"""The ways to ask one row: in process, over REST, through the queue. All give the same answer."""

import asyncio
from typing import Any, Self

import msgspec

from cli import output as answer
from cli.output import Answer
from infra.config import Settings
from model import card as cards
from model import rows
from model.card import Card, Label, Value

LOCAL, REST, TOPIC, QUEUE = "local", "rest", "topic", "queue"
CONNECT_SECONDS = 5.0


class Refused(Exception):
    """The service read the question and refused it."""


class ServiceUnavailable(Exception):
    """The REST service is busy or away."""


class _Opened:
    """A way that needs no opening."""

    def __init__(self, settings: Settings, card: Card) -> None:
        self._settings = settings
        self._card = card

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


class Local(_Opened):
    """The model in this process."""

    async def __aenter__(self) -> Self:
        from model import artifact

        self._loaded = artifact.load(self._settings.model)
        return self

    async def ask(self, row: list[Value], timeout: float) -> Answer:  # noqa: ARG002
        from model.predict import matrix, predict

        model, card = self._loaded
        y, proba = predict(model, matrix([row], card.numeric))
        return answer.from_prediction(y, proba, card.classes, card.id)


class _Tensor(msgspec.Struct):
    """An output of a response; `data` is flat."""

    name: str
    data: list[Label]


class _Inference(msgspec.Struct):
    """What is read of a response of the Open Inference Protocol."""

    model_name: str
    model_version: str
    outputs: list[_Tensor]


class _Refusal(msgspec.Struct):
    """The body of an error of the Open Inference Protocol."""

    error: str


class Rest(_Opened):
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

        url = f"{self._settings.api_url.rstrip('/')}/v2/models/{self._card.name}/infer"
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with self._session.post(url, json=self._question(row), timeout=limit) as got:
                return self._read(got.status, await got.read())
        except TimeoutError as e:
            raise ServiceUnavailable(f"{url} did not answer within {timeout:g} s") from e
        except (aiohttp.ClientError, OSError) as e:
            raise ServiceUnavailable(
                f"no service at {self._settings.api_url}; start it: make up, or python -m api"
            ) from e

    def _question(self, row: list[Value]) -> dict[str, Any]:
        if self._card.numeric:
            tensor = {"name": "X", "shape": [1, len(row)], "datatype": "FP64", "data": row}
            return {"inputs": [tensor]}
        return {
            "inputs": [
                {
                    "name": feature.name,
                    "shape": [1, 1],
                    "datatype": "FP64" if feature.type == "number" else "BYTES",
                    "data": [value],
                }
                for feature, value in zip(self._card.features, row, strict=True)
            ]
        }

    def _read(self, status: int, body: bytes) -> Answer:
        if status == 503:
            raise ServiceUnavailable(
                "503 Service Unavailable: the service is busy with others; let the work wait in "
                "a queue instead: --via queue"
            )
        if status == 401:
            raise Refused("401: the service wants a key of its own; set PETAL_API_KEY to one")
        try:
            if status != 200:
                raise Refused(f"{status}: {msgspec.json.decode(body, type=_Refusal).error}")
            return self._answer(msgspec.json.decode(body, type=_Inference))
        except (msgspec.DecodeError, KeyError, ValueError) as e:
            raise ServiceUnavailable(
                f"{self._settings.api_url} answered {status}, not as the Open Inference "
                "Protocol does; is PETAL_API_URL right?"
            ) from e

    def _answer(self, got: _Inference) -> Answer:
        outputs = {output.name: output.data for output in got.outputs}
        classes = self._card.classes
        [label] = outputs["predict"]
        proba = None
        if "predict_proba" in outputs:  # other servers of the protocol may have none
            proba = [float(p) for _, p in zip(classes, outputs["predict_proba"], strict=True)]
        model = f"{got.model_name}@{got.model_version}"
        return answer.from_prediction(
            [_typed(label, classes)], None if proba is None else [proba], classes, model
        )


def _typed(label: Any, classes: tuple[Any, ...]) -> Any:
    """The class that a name on the wire stands for: the protocol has no integers as labels."""
    return next((c for c in classes if str(c) == str(label)), label)


class Queue(_Opened):
    """The task queue: publish, and await this task's own result."""

    async def __aenter__(self) -> Self:
        from streams.client import Client

        self._client = Client(self._settings)
        await self._client.start(wait=CONNECT_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.stop()

    async def ask(self, row: list[Value], timeout: float) -> Answer:
        result = await self._client.ask([row], timeout)
        if result.error is not None:
            raise Refused(f"{result.error.code}: {result.error.message}")
        return answer.from_document(msgspec.to_builtins(result), self._card.classes)


class Topic(Queue):
    """The message queue: publish and go on; the answer's label is the task's id."""

    async def ask(self, row: list[Value], timeout: float) -> Answer:  # noqa: ARG002
        sent = await self._client.submit([row])
        return Answer(sent.id, None, sent._asdict())


WAYS: dict[str, type[Local | Rest | Queue | Topic]] = {
    LOCAL: Local,
    REST: Rest,
    TOPIC: Topic,
    QUEUE: Queue,
}


def open_way(name: str, settings: Settings) -> tuple[Local | Rest | Queue | Topic, Card]:
    """A way to ask, not opened yet, and the card of the model that is asked."""
    card = cards.read(settings.model)
    return WAYS[name](settings, card), card


def ask_once(name: str, settings: Settings, values: tuple[str, ...], timeout: float) -> Answer:
    """Parse one row of raw values and ask it; raises InvalidFeatures and the way's errors."""
    way, card = open_way(name, settings)
    row = rows.parse(card, values)

    async def run() -> Answer:
        async with way:
            return await way.ask(row, timeout)

    return asyncio.run(run())
