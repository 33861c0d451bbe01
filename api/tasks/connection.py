"""The REST service's connection to the task queue, opened at the first request for it."""

import asyncio
from contextlib import suppress
from contextvars import Context

from infra.config import Settings
from streams.client import Client
from streams.errors import PipelineUnavailable

CONNECT_SECONDS = 1.6  # so that a response without a broker comes within 2 s
CLOSE_SECONDS = 0.5


class Connection:
    """Connects at the first `client()`, and again after a failure, but never at start-up."""

    def __init__(self, settings: Settings) -> None:
        self._client = Client(settings)
        self._connecting: asyncio.Task[None] | None = None

    async def client(self, reading: bool = False, within: float = CONNECT_SECONDS) -> Client:
        """The connected client, with a reader of results if `reading`.

        Raises PipelineUnavailable `within` seconds. Concurrent callers share one attempt.
        """
        if self._connecting is None or _failed(self._connecting):
            # In an empty context: its later log lines belong to no request.
            self._connecting = asyncio.create_task(self._connect(), context=Context())
        try:
            async with asyncio.timeout(within):
                await asyncio.shield(self._connecting)
                if reading:
                    await self._client.tail()
                return self._client
        except TimeoutError as e:
            raise PipelineUnavailable("the broker does not answer") from e

    async def _connect(self) -> None:
        # A broker that accepts the connection and never answers must not block the next attempt.
        async with asyncio.timeout(2 * CONNECT_SECONDS):
            await self._client.start(wait=CONNECT_SECONDS / 2)

    def give_up(self) -> None:
        """End all present and later waits for a result, as their time-out would."""
        self._client.give_up()

    async def close(self) -> None:
        """Disconnect; this cancels calls that wait for a result."""
        if self._connecting is None:
            return
        if not self._connecting.done():
            self._connecting.cancel()
        with suppress(asyncio.CancelledError, PipelineUnavailable, TimeoutError):
            await self._connecting
        with suppress(TimeoutError):  # a broker that does not answer must not delay the stop
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._client.stop()


def _failed(connecting: asyncio.Task[None]) -> bool:
    return connecting.done() and (connecting.cancelled() or connecting.exception() is not None)
