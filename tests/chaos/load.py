"""The load: three clients that ask, one that reads all results, and a stranger with poison."""

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from infra.config import Settings
from streams.client import Client, ClientError, ResultTimeout, TooLarge, Unknown
from streams.reader import Reader
from streams.schema import StoreError
from streams.topics import MAX_TASK_BYTES, RESULTS, TASKS
from tests.chaos.model import rows_for
from tests.chaos.recorder import Recorder

RATE = 8.0  # tasks a second of each client
BURST = 24  # one client sends as many at once, so that a fault finds work in hand
ANSWER_SECONDS = 45.0
POISON = (
    b"", None, b"{", b'{"a":"\xff"}', b"[" * 20_000, b"[1,2]", b"\x00\x01\x02",
    b'{"v":1,"id":"7","X":[[1,2]],"at":1}', b"null", b'{"v":1,"X":[[1,2]],"at":1}',
)  # fmt: skip


class Load:
    """Runs until `stop` is set; then `finish` waits for the last answers."""

    def __init__(self, settings: Settings, record: Recorder, seed: int) -> None:
        self._settings = settings
        self._record = record
        self._random = random.Random(seed)
        self._unknown: list[str] = []
        self._wanted_rows: set[str] = set()
        self._asking: set[asyncio.Task[None]] = set()
        self._stack = contextlib.AsyncExitStack()
        self.stop = asyncio.Event()

    async def run(self) -> None:
        """All clients at once, until told to stop."""
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

    async def finish(self, deadline: float) -> None:
        """Try the unknown again with the same id, wait for answers, disconnect."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                for task_id in self._unknown:
                    await self._submit("c1-again", task_id)
                while self._asking or self._wanted_rows:
                    await asyncio.sleep(0.2)
        for task_id in self._wanted_rows:
            self._record("c1", "await", "info", task_id)
        for task in (*self._background, *self._asking):
            task.cancel()
        await asyncio.gather(*self._background, *self._asking, return_exceptions=True)
        await self._stack.aclose()

    def _new_id(self) -> str:
        return str(UUID(bytes=self._random.randbytes(16), version=4))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds * self._random.uniform(0.5, 1.5)):
                await self.stop.wait()

    async def _submit_bursts(self) -> None:
        """c1: one task after the other; the answers are awaited as rows of the database."""
        last = self._new_id()
        while not self.stop.is_set():
            for _ in range(BURST):
                draw = self._random.random()
                if draw < 0.02:
                    await self._submit("c1", self._new_id(), too_large=True)
                    continue
                task_id = last = last if draw < 0.04 else self._new_id()
                await self._submit("c1", task_id)
            await self._pause(BURST / RATE)

    async def _submit(self, proc: str, task_id: str, too_large: bool = False) -> None:
        self._record(proc, "submit", "invoke", task_id)
        X = [["x" * MAX_TASK_BYTES]] if too_large else rows_for(task_id)
        try:
            done = await self._submitter.submit(X, task_id)
        except TooLarge as e:
            self._record(proc, "submit", "fail", task_id, detail=str(e))
        except Unknown as e:
            self._record(proc, "submit", "info", task_id, detail=str(e))
            self._unknown += [] if proc == "c1-again" else [task_id]
        else:
            place = done.partition, done.offset
            self._record(proc, "submit", "ok", task_id, place=place)
            self._wanted_rows.add(task_id)

    async def _ask_steadily(self, proc: str, client: Client) -> None:
        while not self.stop.is_set():
            task = asyncio.create_task(self._ask(proc, client, self._new_id()))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
            await self._pause(1 / RATE)

    async def _ask(self, proc: str, client: Client, task_id: str) -> None:
        self._record(proc, "submit", "invoke", task_id)
        try:
            result = await client.ask(rows_for(task_id), ANSWER_SECONDS, task_id)
        except ResultTimeout as e:
            self._record(proc, "submit", "ok", task_id)
            self._record(proc, "await", "info", task_id, detail=str(e))
        except ClientError as e:  # a first `ask` may fail before it sends; unknown is right too
            self._record(proc, "submit", "info", task_id, detail=str(e))
            self._unknown.append(task_id)
        else:
            self._record(proc, "submit", "ok", task_id)
            self._record(proc, "await", "ok", task_id, got=result.id, y=result.y)

    async def _poll_rows(self) -> None:
        while True:
            with contextlib.suppress(StoreError, sqlite3.Error):  # the next look will see
                self._look_for_rows()
            await asyncio.sleep(0.5)

    def _look_for_rows(self) -> None:
        with Reader(self._settings.database) as reader:
            for task_id in list(self._wanted_rows):
                if row := reader.get(task_id):
                    self._wanted_rows.discard(task_id)
                    y = row["y"] and msgspec.json.decode(row["y"])
                    self._record("c1", "await", "ok", task_id, got=row["task_id"], y=y)

    async def _read_results(self) -> None:
        """c4: whatever stands in `results`, as any consumer sees it."""
        partitions = [TopicPartition(RESULTS, p) for p in range(self._settings.partitions)]
        async with AIOKafkaConsumer(
            bootstrap_servers=self._settings.bootstrap, auto_offset_reset="earliest"
        ) as consumer:
            consumer.assign(partitions)
            async for record in _forever(consumer.getone):
                value = msgspec.json.decode(record.value)
                fields = {"got": value["id"], "y": value.get("y")}
                self._record("c4", "await", "ok", record.key.decode(), **fields)

    async def _poison(self) -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=self._settings.bootstrap, request_timeout_ms=10_000
        ) as producer:
            count = 0
            while not self.stop.is_set():
                name = f"poison-{(count := count + 1)}"
                value = POISON[count % len(POISON)]
                self._record("stranger", "poison", "invoke", name)
                try:
                    async with asyncio.timeout(10):
                        done = await producer.send_and_wait(TASKS, value, key=name.encode())
                except (KafkaError, TimeoutError) as e:
                    self._record("stranger", "poison", "info", name, detail=repr(e))
                else:
                    place = done.partition, done.offset
                    self._record("stranger", "poison", "ok", name, place=place)
                await self._pause(0.7)


async def _forever(get: Callable[[], Awaitable[Any]]) -> AsyncIterator[Any]:
    while True:
        try:
            yield await get()
        except KafkaError:  # aiokafka reconnects by itself
            await asyncio.sleep(0.2)
