"""The task queue, for files of rows."""

from collections.abc import Sequence
from typing import Self

from cli.backends import CONNECT_SECONDS, Predicted, RequestRefused, ServiceUnavailable
from cli.bulk.errors import NoAnswer
from infra.config import Settings
from model.card import Value
from streams.client import Client
from streams.errors import PipelineUnavailable, ResultTimeout, TaskTooLarge, UnknownOutcome


class QueueAsker:
    """Publishes a task and awaits its result."""

    def __init__(self, settings: Settings, model: str | None) -> None:
        """`model` is a reference of the pipeline; None: its default."""
        self._client = Client(settings)
        self._model = model

    async def __aenter__(self) -> Self:
        await self._client.start(wait=CONNECT_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.stop()

    async def predict(self, rows: Sequence[Sequence[Value]], timeout: float) -> Predicted:
        """As `cli.bulk.scoring.remote.Asker`; raises NoAnswer if no worker answers in time."""
        try:
            result = await self._client.ask(rows, timeout, model=self._model)
        except TaskTooLarge as e:
            raise RequestRefused(str(e), "task_too_large") from e
        except (PipelineUnavailable, UnknownOutcome) as e:
            raise ServiceUnavailable(str(e)) from e
        except ResultTimeout as e:
            raise NoAnswer(
                f"no result within {timeout:g} s; whether workers run: petal status; to wait "
                "longer: --timeout"
            ) from e
        if result.error is not None:
            raise RequestRefused(result.error.message, result.error.code)
        return Predicted(result.y or [], result.proba, result.score, result.model)
