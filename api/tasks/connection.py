"""The REST service's connection to the task queue, opened at the first request for it.

Where a broker refuses the service, predictions go on, tasks get the reason, and the broker is asked
again at most once in REFUSED_SECONDS: it may lock a user out that tries a wrong password too often.
"""

import asyncio
import logging
import time
from contextlib import suppress
from contextvars import Context

from infra.config import Settings
from streams.client import Client
from streams.errors import PipelineRefused, PipelineUnavailable

CONNECT_SECONDS = 1.6  # so that a response without a broker comes within 2 s
CLOSE_SECONDS = 0.5
REFUSED_SECONDS = 5.0

logger = logging.getLogger(__name__)


class Connection:
    """Connects at the first `client()`, and again after a failure, but never at start-up."""

    def __init__(self, settings: Settings) -> None:
        self._client = Client(settings)
        self._connecting: asyncio.Task[None] | None = None
        self._refused_at = -REFUSED_SECONDS
        self.refusal: str | None = None  # why the broker refused the last attempt

    async def client(self, reading: bool = False, within: float = CONNECT_SECONDS) -> Client:
        """The connected client, with a reader of results if `reading`.

        Raises PipelineUnavailable `within` seconds. Concurrent callers share one attempt.
        """
        if self.refusal is not None and time.monotonic() - self._refused_at < REFUSED_SECONDS:
            raise PipelineRefused(self.refusal)
        if refusal := self._client.lasting_refusal():
            raise refusal
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

    def begin(self) -> None:
        """Connect in the background, so that a refusal is known before the first request."""
        self._connecting = asyncio.create_task(self._connect(), context=Context())
        self._connecting.add_done_callback(_failed)  # the error is looked at

    async def _connect(self) -> None:
        # A broker that accepts the connection and never answers must not block the next attempt.
        try:
            async with asyncio.timeout(2 * CONNECT_SECONDS):
                await self._client.start(wait=CONNECT_SECONDS / 2)
        except PipelineRefused as e:
            self.note(e)
            raise

    def note(self, refusal: PipelineRefused | None) -> None:
        """Remember why the broker refuses this service, and log it once; None: it does not."""
        if refusal is None:
            self.refusal = None
            return
        if str(refusal) != self.refusal:
            logger.error("%s", refusal)
        self.refusal, self._refused_at = str(refusal), time.monotonic()

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
