"""Faust's producer, which also publishes whole batches: one future to await for each."""

import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

from faust.transport.drivers import aiokafka as driver
from typing_extensions import override

from infra.broker import connection

BATCH_BYTES = 900_000  # of one produce request's batch; under Kafka's default message limit


class Producer(driver.Producer):  # type: ignore[misc]
    """Writes whole batches; idempotent where the broker can."""

    @override
    def _settings_extra(self) -> Mapping[str, Any]:
        """Add idempotence, for which Faust has no setting."""
        return connection.durability(self.transport.idempotence)

    @override
    async def flush(self) -> None:
        """Do nothing: each delivery is awaited before its ack, so a commit need not wait."""

    async def send_all(
        self,
        topic: str,
        partition: int,
        messages: Iterable[tuple[bytes | None, bytes | None]],
        headers: Sequence[list[tuple[str, bytes]]] = (),
    ) -> list[Awaitable[Any]]:
        """Queue (key, value) messages to one partition, in order; `headers` one list for each.

        Returns one future per produce batch; the messages are written when all are done.
        """
        producer = self._ensure_producer()
        deliveries: list[Awaitable[Any]] = []
        batch = producer.create_batch()
        append = batch._builder.append  # half the cost of `batch.append`, its wrapper
        count = 0
        now = int(time.time() * 1000)
        for (key, value), head in zip(messages, headers or repeat([])):  # noqa: B905
            if append(count, now, key, value, head) is None:
                deliveries.append(await self._send(batch, count, topic, partition))
                batch = producer.create_batch()
                append = batch._builder.append
                append(0, now, key, value, head)
                count = 0
            count += 1
        if count:
            deliveries.append(await self._send(batch, count, topic, partition))
        return deliveries

    async def _send(self, batch: Any, count: int, topic: str, partition: int) -> Awaitable[Any]:
        batch._relative_offset = count
        delivery: Awaitable[Any] = await self._ensure_producer().send_batch(
            batch, topic, partition=partition
        )
        return delivery
