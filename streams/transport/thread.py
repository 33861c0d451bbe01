"""Faust's consumer thread, in the event loop that the application runs in."""

from collections.abc import Callable
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.futures import maybe_async


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread without a thread: aiokafka runs in the main event loop.

    With one event per chunk the loop is idle most of the time, and two threads would only
    hand the interpreter's lock to and fro. Slow predictions leave the loop instead.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, thread_loop=kwargs["loop"], **kwargs)

    async def start(self) -> None:
        self._thread_started.set()
        await self._default_start()

    async def stop(self) -> None:
        if self._started.is_set() and not self._stopped.is_set():
            self._stopped.set()
            await self._shutdown_thread()

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await maybe_async(fun(*args, **kwargs))

    def _create_worker_consumer(self, transport: Any) -> Any:
        """Set on aiokafka's consumer what Faust has no setting for."""
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = transport.fetch_wait_ms
        return consumer

    async def committed(self, tp: TP) -> int | None:
        """The group's committed offset, asked of the broker."""
        offset = await self.call_thread(self._ensure_consumer().committed, tp)
        return None if offset is None else int(offset)
