"""Results as server-sent events: in order, resumed by position, ended in time."""

import asyncio
import http.client
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.types import Message

from api.__main__ import GRACE_SECONDS
from api.errors import Unavailable
from api.tasks.feed import MAX_STREAMS, Feed
from streams.codec import encode
from streams.events import Position, Result, Timings, new_id
from streams.projection.store import Store
from streams.records import Chunk
from tests.processes import wait_until
from tests.service import Service, serving


class Record(NamedTuple):
    offset: int
    timestamp: int
    value: bytes | None


class Event(NamedTuple):
    name: str
    id: str | None
    data: Any


@pytest.fixture
def service(tmp_path: Path, artifact: Path) -> Iterator[Service]:
    with serving(tmp_path, artifact, broker=False) as running:
        yield running


@pytest.fixture
def store(service: Service) -> Iterator[Store]:
    """The sink's side of the projection."""
    opened = Store(Path(service.pipeline.env["PETAL_DATABASE"]), "a-log")
    yield opened
    opened.close()


def result(task_id: str, rows: int = 1) -> Result:
    return Result(
        v=1, id=task_id, y=["setosa"] * rows, model="iris@0123456789ab", worker="here-1",
        task=Position(0, 7), ms=Timings(1.0, 0.5),
    )  # fmt: skip


def add(store: Store, partition: int, first: int, *ids: str) -> None:
    records = [Record(first + i, 1000, encode(result(task))) for i, task in enumerate(ids)]
    store.apply(Chunk("results", partition, first, records))


class Stream:
    """An open stream of events."""

    def __init__(self, service: Service, path: str, last: str | None = None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
        self._connection.request("GET", path, headers={"last-event-id": last} if last else {})
        self.response = self._connection.getresponse()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.response.close()
        self._connection.close()

    def next(self) -> Event | None:
        """The next event, comments skipped; None at the end."""
        fields: dict[str, str] = {}
        while line := self.response.readline():
            if line == b"\n" and fields:
                data = json.loads(fields["data"])
                return Event(fields["event"], fields.get("id"), data)
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
        return None


def test_results_are_streamed_when_stored_and_resumed_by_position(
    service: Service, store: Store
) -> None:
    before, first, second, third = (new_id() for _ in range(4))
    add(store, 0, 0, before)
    with Stream(service, "/results") as stream:
        assert stream.response.getheader("content-type") == "text/event-stream; charset=utf-8"
        stream.response.readline()  # the comment at its beginning: it has its position
        add(store, 0, 1, first)
        told = stream.next()
        add(store, 1, 5, second)
        assert stream.next() is not None
    assert told is not None
    assert (told.name, told.id, told.data["id"]) == ("result", "1/0/2", first)
    add(store, 0, 2, third)
    with Stream(service, "/results", told.id) as stream:
        resumed = [stream.next(), stream.next()]
    assert [(e.id, e.data["id"]) for e in resumed if e] == [
        ("1/0/3", third), ("1/0/3,1/1/6", second),
    ]  # fmt: skip
    with Stream(service, "/results", "0") as stream:
        everything = [stream.next() for _ in range(4)]
    assert [e.data["id"] for e in everything if e] == [before, first, third, second]


def test_a_task_is_pending_then_answered_and_the_stream_ends(
    service: Service, store: Store
) -> None:
    task_id = new_id()
    path = f"/tasks/{task_id}/events"
    with Stream(service, path) as stream:
        assert stream.next() == Event("pending", None, {"id": task_id, "status": "pending"})
        add(store, 3, 0, task_id)
        told = stream.next()
        assert stream.next() is None
    assert told is not None
    assert (told.name, told.id) == ("result", "1/3/1")
    assert told.data == json.loads(encode(result(task_id)))
    with Stream(service, path) as stream:
        assert stream.next() == told
    assert service.call("GET", path, last_event_id="1/3/1").status == 204


def test_an_invalid_position_or_id_is_refused(service: Service) -> None:
    assert service.call("GET", "/results", last_event_id="1/2").status == 400
    assert service.call("GET", "/tasks/1/events").status == 400


def test_a_stop_ends_open_streams_at_once(service: Service) -> None:
    [process] = service.pipeline.processes
    with Stream(service, "/results") as stream, Stream(service, f"/tasks/{new_id()}/events") as one:
        assert one.next() is not None
        process.send(signal.SIGTERM)
        assert (stream.next(), one.next()) == (None, None)
    wait_until(lambda: process.exit_code is not None, 5, "the service ends")
    assert "Traceback" not in process.output


def test_a_client_that_does_not_read_delays_a_stop_no_longer_than_the_grace(
    service: Service, store: Store
) -> None:
    large = [encode(result(new_id(), 10_000)) for _ in range(300)]  # 33 MB, more than sockets hold
    records = [Record(n, 1000, value) for n, value in enumerate(large)]
    store.apply(Chunk("results", 0, 0, records))
    [process] = service.pipeline.processes
    with Stream(service, "/results", "0"):
        time.sleep(0.5)  # until the sockets are full
        process.send(signal.SIGTERM)
        wait_until(lambda: process.exit_code is not None, GRACE_SECONDS + 2, "the service ends")
    assert "Traceback" not in process.output


def test_a_client_that_disconnects_leaves_no_open_stream(service: Service) -> None:
    def open_requests() -> float:
        text = service.call("GET", "/metrics").text
        [line] = [x for x in text.splitlines() if x.startswith("rest_server_requests_in_progress ")]
        return float(line.split()[1])

    with Stream(service, "/results"):
        assert open_requests() == 2
    wait_until(lambda: open_requests() == 1, 5, "the stream is closed")


def test_a_silent_stream_sends_heartbeats(tmp_path: Path) -> None:
    async def heard() -> list[bytes]:
        feed = Feed(tmp_path / "none.sqlite", heartbeat=0.05)
        sent: list[bytes] = []
        enough = asyncio.Event()

        async def receive() -> Message:
            await enough.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message.get("body", b"start"))
            if len(sent) == 4:
                enough.set()

        await feed.stream(feed.results(None))({"type": "http", "method": "GET"}, receive, send)
        return sent

    told = asyncio.run(asyncio.wait_for(heard(), 5))
    beat = b": alive\n\n"
    assert told == [b"start", b": results as they are stored\n\n", beat, beat]


def test_more_streams_than_the_limit_are_refused(tmp_path: Path) -> None:
    async def opened() -> None:
        feed, gone = Feed(tmp_path / "none.sqlite"), asyncio.Event()
        count = 0

        async def receive() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal count
            count += message["type"] == "http.response.start"

        scope = {"type": "http", "method": "GET"}
        async with asyncio.TaskGroup() as group:
            for _ in range(MAX_STREAMS):
                response = feed.stream(feed.task(new_id(), b"{}"))
                group.create_task(response(scope, receive, send))
            while count < MAX_STREAMS:
                await asyncio.sleep(0.01)
            with pytest.raises(Unavailable, match=r"^500 streams are open already$"):
                feed.stream(feed.results(None))
            gone.set()
        feed.stream(feed.results(None))

    asyncio.run(asyncio.wait_for(opened(), 30))


def test_a_database_that_is_created_and_replaced_is_seen(tmp_path: Path) -> None:
    async def seen() -> list[str]:
        database = tmp_path / "petal.sqlite"
        stream = Feed(database).results(None)
        await anext(stream)
        ids = [new_id(), new_id()]
        for path, task_id in zip((database, tmp_path / "other.sqlite"), ids, strict=True):
            store = Store(path, "a-log")
            add(store, 0, 0 if path == database else 1, task_id)
            store.close()
            path.replace(database)
            assert task_id.encode() in await anext(stream)
        return ids

    assert len(asyncio.run(asyncio.wait_for(seen(), 10))) == 2
