"""A backlog that visits every branch of delivery.

In every partition it has tasks whose answers fill several batches, and unreadable records between
them.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer

from infra.config import Settings
from infra.topics import MAX_TASK_BYTES, TASKS, TRACE_HEADER
from tests.chaos.history import Function
from tests.chaos.load.state import LoadState
from tests.chaos.model import answer_to, bulk_id

PUBLISH_SECONDS = 20.0
# In each partition. B: a task with many rows, P: an unreadable record. However it is cut into
# chunks, one chunk has two B, and one has B and P.
PATTERN = "BPBB"
UNREADABLE = b'{"v":1'


class Message(NamedTuple):
    """A record for `tasks`; `name` is its key."""

    name: str
    partition: int
    value: bytes
    trace: bytes | None

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        return [] if self.trace is None else [(TRACE_HEADER, self.trace)]


class Backlog:
    """Publishes backlogs, and records each message as the other clients do."""

    def __init__(self, settings: Settings, state: LoadState) -> None:
        self._settings = settings
        self._state = state
        self._count = 0

    async def publish(self) -> list[str]:
        """Publish a backlog; returns the ids of its tasks, which the broker has all accepted.

        Raises KafkaError, or TimeoutError.
        """
        messages = list(self._messages())
        async with (
            asyncio.timeout(PUBLISH_SECONDS),
            AIOKafkaProducer(
                bootstrap_servers=self._settings.bootstrap,
                max_request_size=MAX_TASK_BYTES + 4096,
                acks="all",
            ) as producer,
        ):
            for message in messages:
                await self._send(producer, message)
        return [message.name for message in messages if message.trace is not None]

    def _messages(self) -> Iterator[Message]:
        for letter in PATTERN:
            for partition in range(self._settings.partitions):
                yield self._bulk(partition) if letter == "B" else self._unreadable(partition)

    def _bulk(self, partition: int) -> Message:
        task_id = bulk_id(self._state.new_id())
        X = [[value, n] for n, value in enumerate(answer_to(task_id))]
        value = msgspec.json.encode({"v": 1, "id": task_id, "X": X, "at": time.time()})
        return Message(task_id, partition, value, _trace(task_id))

    def _unreadable(self, partition: int) -> Message:
        self._count += 1
        return Message(f"poison-of-backlog-{self._count}", partition, UNREADABLE, None)

    async def _send(self, producer: AIOKafkaProducer, message: Message) -> None:
        record = self._state.record
        client: str = "b1" if message.trace else "stranger"
        function: Function = "submit" if message.trace else "poison"
        record(client, function, "invoke", message.name)
        done = await producer.send_and_wait(
            TASKS, message.value, key=message.name.encode(), partition=message.partition,
            headers=message.headers,
        )  # fmt: skip
        record(client, function, "ok", message.name, place=(done.partition, done.offset))


def _trace(task_id: str) -> bytes:
    """A W3C `traceparent` that is unique to the task, not sampled."""
    digits = task_id.replace("-", "")
    return f"00-{digits}-{digits[:16]}-00".encode()
