"""Faust's consumer thread, in the event loop that the application runs in."""

from collections.abc import Callable
from typing import Any

from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service
from mode.utils.futures import maybe_async
from typing_extensions import override

GROUP_CHECK_SECONDS = 1.0


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
        """Set the longest wait of a fetch, for which Faust has no setting."""
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = transport.fetch_wait_ms
        return consumer

    @Service.task
    async def _watch_group(self) -> None:
        """End the process with the error for which aiokafka no longer asks for partitions.

        aiokafka raises it from calls that Faust makes only when it has partitions.
        """
        while not self.should_stop:
            await self.sleep(GROUP_CHECK_SECONDS)
            if self._consumer is not None and not self.should_stop:
                try:
                    self._consumer._coordinator.check_errors()
                except KafkaError as e:
                    self.consumer.app._crash(e)  # `crash` would log a traceback first

    async def committed(self, tp: TP) -> int | None:
        """The group's committed offset, from the broker."""
        offset = await self.call_thread(self._ensure_consumer().committed, tp)
        return None if offset is None else int(offset)
