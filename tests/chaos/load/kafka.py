"""The load over Kafka: c1 to c3 send tasks, c4 reads all results, a stranger sends poison."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from infra.config import Settings
from infra.topics import MAX_TASK_BYTES, RESULTS, TASKS
from streams.client import Client
from streams.errors import (
    ClientError,
    PipelineUnavailable,
    ResultTimeout,
    StoreError,
    TaskTooLarge,
    UnknownOutcome,
)
from streams.projection.reader import Reader
from tests.chaos.load.state import ANSWER_SECONDS, AT_ONCE, LoadState, batched
from tests.chaos.model import broken_rows, rows_for

RATE = 8.0  # tasks a second of each client
BURST = 24  # tasks that c1 sends at once, so that some are in flight when a fault strikes
FLOOD = 300
DELIVERY_SECONDS = 2.5  # for the broker's acknowledgement; less than an outage lasts
POISON = (
    b"", None, b"{", b'{"a":"\xff"}', b"[" * 20_000, b"[1,2]", b"\x00\x01\x02",
    b'{"v":1,"id":"7","X":[[1,2]],"at":1}', b"null", b'{"v":1,"X":[[1,2]],"at":1}',
)  # fmt: skip


class KafkaLoad:
    """The Kafka clients; they run until `state.stop` is set, then `retry` and `close`."""

    def __init__(self, settings: Settings, state: LoadState) -> None:
        self._settings = msgspec.structs.replace(settings, delivery_timeout=DELIVERY_SECONDS)
        self._state = state
        self._record = state.record
        self._missing_rows: set[str] = set()
        self._stack = contextlib.AsyncExitStack()

    async def run(self) -> None:
        """Run all clients."""
        self._submitter = await self._client()
        askers = [await self._client(), await self._client()]
        self._background = [
            asyncio.create_task(self._poll_rows()),
            asyncio.create_task(self._read_results()),
        ]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._submit_bursts())
            for n, client in enumerate(askers, start=2):
                group.create_task(self._ask_steadily(f"c{n}", client))
            group.create_task(self._poison())

    async def _client(self) -> Client:
        client = Client(self._settings)
        await client.start()
        self._stack.push_async_callback(client.stop)
        return client

    async def flood(self) -> list[str]:
        """Send FLOOD tasks at once; returns their ids."""
        ids = [self._state.new_id() for _ in range(FLOOD)]
        await asyncio.gather(*(self._submit("flood", i, rows_for(i)) for i in ids))
        return ids

    async def retry(self, deadline: float) -> None:
        """Retry the tasks with an unknown outcome, with the same ids; wait for all rows."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                for some in batched(list(self._state.unknown), AT_ONCE):
                    await asyncio.gather(
                        *(self._submit("c1-again", task_id, rows_for(task_id)) for task_id in some)
                    )
                while self._missing_rows - self._state.unstored:
                    await asyncio.sleep(0.2)

    async def close(self) -> None:
        """Disconnect; record the tasks that are still unanswered."""
        for task_id in self._missing_rows:
            self._record("c1", "await", "info", task_id)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._stack.aclose()

    async def _submit_bursts(self) -> None:
        """c1: bursts of tasks, one after the other; `_poll_rows` finds the answers."""
        last = self._state.new_id()
        while not self._state.stop.is_set():
            self._state.burst.clear()
            for _ in range(BURST):
                last = await self._submit_some(last)
            await self._state.pause(BURST / RATE, self._state.burst)

    async def _submit_some(self, last: str) -> str:
        """Submit a task of some kind; returns its id."""
        draw = self._state.random.random()
        if draw < 0.02:  # a retry of the same task
            await self._submit("c1", last, rows_for(last))
        elif draw < 0.04:  # the id of another task
            await self._submit("c1", last, rows_for(last, other=True))
        elif draw < 0.06:
            await self._submit("c1", self._state.new_id(), [["x" * MAX_TASK_BYTES]])
        elif draw < 0.08:
            broken = self._state.new_id()
            await self._submit("c1", broken, broken_rows(broken))
        else:
            last = self._state.new_id()
            await self._submit("c1", last, rows_for(last))
        return last

    async def _submit(self, proc: str, task_id: str, X: list[list[Any]]) -> None:
        self._record(proc, "submit", "invoke", task_id)
        try:
            done = await self._submitter.submit(X, task_id)
        except TaskTooLarge as e:
            self._record(proc, "submit", "fail", task_id, detail=str(e))
        except PipelineUnavailable as e:  # it was not sent
            self._record(proc, "submit", "fail", task_id, detail=str(e))
        except UnknownOutcome as e:
            self._state.record_unknown(proc, task_id, e)
        else:
            place = done.partition, done.offset
            self._record(proc, "submit", "ok", task_id, place=place)
            self._missing_rows.add(task_id)

    async def _ask_steadily(self, proc: str, client: Client) -> None:
        while not self._state.stop.is_set():
            self._state.spawn(self._ask(proc, client, self._state.new_id()))
            await self._state.pause(1 / RATE)

    async def _ask(self, proc: str, client: Client, task_id: str) -> None:
        self._record(proc, "submit", "invoke", task_id)
        try:
            result = await client.ask(rows_for(task_id), ANSWER_SECONDS, task_id)
        except ResultTimeout as e:
            self._record(proc, "submit", "ok", task_id)
            self._record(proc, "await", "info", task_id, detail=str(e))
        except ClientError as e:  # `ask` may fail before it sends; unknown is still correct
            self._state.record_unknown(proc, task_id, e)
        else:
            self._record(proc, "submit", "ok", task_id)
            self._record(proc, "await", "ok", task_id, got=result.id, y=result.y)

    async def _poll_rows(self) -> None:
        while True:
            with contextlib.suppress(StoreError, sqlite3.Error):  # the next poll retries
                self._look_for_rows()
            await asyncio.sleep(0.5)

    def _look_for_rows(self) -> None:
        with Reader(self._settings.database) as reader:
            for task_id in list(self._missing_rows):
                if row := reader.get(task_id):
                    self._missing_rows.discard(task_id)
                    y = row["y"] and msgspec.json.decode(row["y"])
                    self._record("c1", "await", "ok", task_id, got=row["task_id"], y=y)

    async def _read_results(self) -> None:
        """c4: all records of `results`, as any consumer sees them."""
        partitions = [TopicPartition(RESULTS, p) for p in range(self._settings.partitions)]
        async with AIOKafkaConsumer(
            bootstrap_servers=self._settings.bootstrap,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=self._settings.fetch_wait_ms,
            request_timeout_ms=10_000,
        ) as consumer:
            consumer.assign(partitions)
            async for record in _forever(consumer.getone):
                value = msgspec.json.decode(record.value)
                self._record(
                    "c4", "await", "ok", record.key.decode(), got=value["id"], y=value.get("y"),
                    place=(record.partition, record.offset),
                    pids=[int(value["worker"].rpartition("-")[2])],
                )  # fmt: skip

    async def _poison(self) -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=self._settings.bootstrap, request_timeout_ms=10_000, acks="all"
        ) as producer:
            count = 0
            while not self._state.stop.is_set():
                name = f"poison-{(count := count + 1)}"
                self._record("stranger", "poison", "invoke", name)
                await self._send_poison(producer, name, POISON[count % len(POISON)])
                await self._state.pause(0.7)

    async def _send_poison(self, producer: Any, name: str, value: bytes | None) -> None:
        try:
            async with asyncio.timeout(DELIVERY_SECONDS):
                done = await producer.send_and_wait(TASKS, value, key=name.encode())
        except (KafkaError, TimeoutError) as e:
            self._record("stranger", "poison", "info", name, detail=repr(e))
        else:
            place = done.partition, done.offset
            self._record("stranger", "poison", "ok", name, place=place)


async def _forever(get: Callable[[], Awaitable[Any]]) -> AsyncIterator[Any]:
    while True:
        try:
            yield await get()
        except KafkaError:  # aiokafka reconnects by itself
            await asyncio.sleep(0.2)
