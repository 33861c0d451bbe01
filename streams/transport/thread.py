"""Faust's consumer thread, in the event loop that the application runs in."""

from collections.abc import Callable
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.futures import maybe_async
from typing_extensions import override

from infra.broker.fetcher import LeanConsumer, isolation_level


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread without a thread: aiokafka runs in the main event loop.

    With one event per chunk the loop is idle most of the time, and a second thread would only
    add contention for the GIL. Slow predictions leave the loop instead.
    """

    @override
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Use the application's loop in place of a new one."""
        super().__init__(*args, thread_loop=kwargs["loop"], **kwargs)

    @override
    async def start(self) -> None:
        """Start as a service of the application's loop, not as a thread."""
        self._thread_started.set()
        await self._default_start()

    @override
    async def stop(self) -> None:
        """Stop as a service; there is no thread to join."""
        if self._started.is_set() and not self._stopped.is_set():
            self._stopped.set()
            await self._shutdown_thread()

    @override
    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call at once; Faust would queue the call for its thread."""
        return await maybe_async(fun(*args, **kwargs))

    @override
    def _create_worker_consumer(self, transport: Any) -> Any:
        """Use our fetcher, and set what Faust has no setting for."""
        consumer = super()._create_worker_consumer(transport)
        consumer.__class__ = (
            LeanConsumer  # Faust makes an aiokafka consumer, and does not start it yet
        )
        consumer._fetch_max_wait_ms = transport.fetch_wait_ms
        consumer._isolation_level = isolation_level(transport.app.settings)
        return consumer

    async def committed(self, tp: TP) -> int | None:
        """The group's committed offset, from the broker."""
        offset = await self.call_thread(self._ensure_consumer().committed, tp)
        return None if offset is None else int(offset)
