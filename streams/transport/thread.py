"""Faust's consumer thread, in the event loop that the application runs in."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition, errors
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service
from mode.utils.futures import maybe_async
from typing_extensions import override

from infra.broker.fetcher import LeanConsumer, fetch_wait, isolation_level
from infra.broker.security.login import secure
from infra.errors import AccessRefused

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
    async def on_start(self) -> None:
        """Connect; Faust would log a traceback where the broker refuses it."""
        try:
            await super().on_start()
        except (errors.KafkaError, AccessRefused) as e:
            self.app.end_if_refused(e)
            raise

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
        consumer.__class__ = LeanConsumer  # of an aiokafka consumer that is not started yet
        secure(consumer._client, transport.app.settings)
        consumer._fetch_max_wait_ms = fetch_wait(transport.app.settings)
        consumer._isolation_level = isolation_level(transport.app.settings)
        return consumer

    async def committed(self, tps: Sequence[TP]) -> Mapping[TP, OffsetAndMetadata]:
        """The group's committed offsets, from the broker; without those that do not exist."""
        coordinator = self._ensure_consumer()._coordinator
        found = await coordinator.fetch_committed_offsets(list(tps))
        return {TP(*tp): committed for tp, committed in found.items()}

    async def find_coordinator(self) -> None:
        """Wait until the group's coordinator is known."""
        await self._ensure_consumer()._coordinator.ensure_coordinator_known()

    async def commit_once(self, offsets: Mapping[TP, OffsetAndMetadata]) -> bool:
        """Commit offsets by one request; False if the group has rebalanced. Raises KafkaError."""
        consumer = self._ensure_consumer()
        coordinator = consumer._coordinator
        try:
            async with coordinator._commit_lock:
                await asyncio.shield(
                    coordinator._do_commit_offsets(
                        consumer._subscription.subscription.assignment,
                        {TopicPartition(*tp): offset for tp, offset in offsets.items()},
                    )
                )
        except (
            errors.UnknownMemberIdError,
            errors.IllegalGenerationError,
            errors.RebalanceInProgressError,
        ):
            return False
        return True

    def partitions_of(self, topic: str) -> Collection[int]:
        """The partitions that the topic has; empty if that is not known."""
        return self._ensure_consumer()._client.cluster.partitions_for_topic(topic) or ()

    def has_coordinator(self) -> bool:
        """Whether the broker that coordinates the group is known, or there is no group."""
        return getattr(self._ensure_consumer()._coordinator, "coordinator_id", 0) is not None

    def leads(self) -> bool:
        """Whether this member assigns the group's partitions."""
        return self._ensure_consumer()._coordinator._group_subscription is not None

    async def leave_group(self) -> None:
        """Give the partitions back at once, before the process ends."""
        await self._ensure_consumer()._coordinator._maybe_leave_group()

    async def refresh_metadata(self) -> None:
        """Ask for the topics' leaders again."""
        await self._ensure_consumer()._client.force_metadata_update()

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
                except errors.KafkaError as e:
                    self.consumer.app._crash(e)  # `crash` would log a traceback first
