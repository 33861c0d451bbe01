"""Faust's consumer thread, in the event loop that the application runs in."""

from collections.abc import Callable
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.futures import maybe_async
from typing_extensions import override


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

    async def committed(self, tp: TP) -> int | None:
        """The group's committed offset, from the broker."""
        offset = await self.call_thread(self._ensure_consumer().committed, tp)
        return None if offset is None else int(offset)

    async def fetch_commit(self, tp: TP) -> OffsetAndMetadata | None:
        """The group's committed offset with its metadata, for which aiokafka has no method."""
        coordinator = self._ensure_consumer()._coordinator
        commit = (await coordinator.fetch_committed_offsets([tp])).get(tp)
        return None if commit is None or commit.offset < 0 else commit

    async def commit_with_metadata(self, tp: TP, offset: int, metadata: str) -> None:
        """Commit one offset. A rebalance meanwhile makes it needless, so its errors are logged."""
        try:
            await self._ensure_consumer().commit({tp: OffsetAndMetadata(offset, metadata)})
        except KafkaError as e:
            self.log.info("committing metadata of %s failed: %r", tp, e)
