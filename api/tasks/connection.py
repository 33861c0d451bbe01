"""The REST service's way into the pipeline: a client that connects when first asked for."""

import asyncio
from contextlib import suppress
from contextvars import Context

import msgspec

from infra.config import Settings
from streams.client import Client
from streams.errors import PipelineUnavailable

CLOSE_SECONDS = 0.5
PATIENCE = 1.6  # seconds for the broker, so that an answer without it comes within 2


class Pipeline:
    """Connects on the first `client()`, again after a failure, and never at the start."""

    def __init__(self, settings: Settings) -> None:
        self._client = Client(msgspec.structs.replace(settings, delivery_timeout=PATIENCE))
        self._connection: asyncio.Task[None] | None = None

    async def client(self, reading: bool = False) -> Client:
        """The connected client, with a reader of results if `reading`.

        Raises PipelineUnavailable within PATIENCE seconds. Callers that come together share one
        attempt.
        """
        if self._connection is None or _failed(self._connection):
            # In no request's context: what it logs later belongs to none.
            self._connection = asyncio.create_task(self._connect(), context=Context())
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.shield(self._connection)
                if reading:
                    await self._client.tail()
                return self._client
        except TimeoutError as e:
            raise PipelineUnavailable("the broker does not answer") from e

    async def _connect(self) -> None:
        # A broker that accepts and says nothing must not hold the attempt open.
        async with asyncio.timeout(2 * PATIENCE):
            await self._client.start(wait=PATIENCE / 2)

    def give_up(self) -> None:
        """End every wait for a result, and each to come, as at its time-out."""
        self._client.give_up()

    async def close(self) -> None:
        """Disconnect; calls that still wait for a result are cancelled."""
        if self._connection is None:
            return
        if not self._connection.done():
            self._connection.cancel()
        with suppress(asyncio.CancelledError, PipelineUnavailable, TimeoutError):
            await self._connection
        with suppress(TimeoutError):  # a broker that says nothing must not hold up the end
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._client.stop()


def _failed(connection: asyncio.Task[None]) -> bool:
    return connection.done() and (connection.cancelled() or connection.exception() is not None)
