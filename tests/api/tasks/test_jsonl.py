"""Many tasks in one request: streamed in and out, bounded, each line with its own answer."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from api.body import MAX_BODY
from api.errors import Conflict, RequestError
from api.tasks.jsonl import MAX_IN_FLIGHT, JsonLines
from streams.events import new_id
from tests.service import Service, read_until, serving

ROW = [5.1, 3.5, 1.4, 0.2]
JSONL = {"content_type": "application/jsonl"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Service]:
    """The service with broker and worker, and a short time limit for a request's parts."""
    folder = tmp_path_factory.mktemp("lines")
    with serving(folder, artifact, {"PETAL_API_RECEIVE_TIMEOUT": "2"}) as running:
        running.pipeline.worker()
        yield running


def answers(reply: Any) -> list[dict[str, Any]]:
    assert (reply.status, reply.headers["content-type"]) == (200, "application/jsonl")
    return [json.loads(line) for line in reply.body.splitlines()]


def test_each_line_is_accepted_or_refused_by_itself(service: Service) -> None:
    first, second = new_id(), new_id()
    sent = [
        {"id": first, "X": [ROW]},
        {"id": second, "X": [ROW, ROW]},
        {"X": [[1, 2, 3]]},
        {"X": [ROW], "id": "1"},
    ]
    body = b"\n\n".join(json.dumps(task).encode() for task in sent) + b"\r\n{\n"
    got = answers(service.call("POST", "/tasks", body, **JSONL))
    assert {a["line"]: a["id"] for a in got if "offset" in a} == {1: first, 2: second}
    refused = {a["line"]: (a["status"], a.get("code")) for a in got if "error" in a}
    assert refused == {3: (422, "wrong_width"), 4: (422, None), 5: (400, None)}
    other = json.dumps({"id": first, "X": [ROW, ROW]}).encode()
    [conflict] = answers(service.call("POST", "/tasks", other, **JSONL))
    assert conflict == {
        "line": 1, "status": 409, "error": f"id_conflict: the id {first} belongs to another task",
    }  # fmt: skip


def test_one_of_several_lines_with_the_same_id_is_accepted(service: Service) -> None:
    task_id = new_id()
    lines = [json.dumps({"id": task_id, "X": [[*ROW[:3], n]]}).encode() for n in range(4)]
    got = answers(service.call("POST", "/tasks", b"\n".join(lines), **JSONL))
    assert sorted(a.get("status", 202) for a in got) == [202, 409, 409, 409]


def test_with_a_wait_each_line_gets_its_result(service: Service) -> None:
    ids = [new_id() for _ in range(2 * MAX_IN_FLIGHT)]
    body = b"\n".join(json.dumps({"id": i, "X": [ROW]}).encode() for i in ids)
    got = answers(service.call("POST", "/tasks", body, prefer="wait=20", **JSONL))
    assert sorted((a["id"], *a["y"]) for a in got) == sorted((i, "setosa") for i in ids)


def test_an_answer_comes_before_the_request_has_ended(service: Service) -> None:
    head = (
        b"POST /tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    line = json.dumps({"X": [ROW]}).encode() + b"\n"
    with service.connect() as connection:
        connection.sendall(head)
        for _ in range(3):
            connection.sendall(b"%x\r\n%s\r\n" % (len(line), line))
            assert b'"offset"' in read_until(connection, b'"offset"')
        connection.sendall(b"0\r\n\r\n")
        assert read_until(connection, b"0\r\n\r\n").endswith(b"0\r\n\r\n")


def test_a_client_that_stops_within_a_request_gets_an_error(service: Service) -> None:
    head = (
        b"POST /tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/jsonl\r\n"
        b"content-length: 1000\r\n\r\n{"
    )
    with service.connect() as connection:
        connection.sendall(head)
        told = read_until(connection, b"0\r\n\r\n")
    assert b'{"line":1,"status":408,"error":"the next line did not come within 2 s"}' in told


class Client:
    """An ASGI server: gives the parts of a body, and takes messages once `takes` is set."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = list(parts)
        self.asked = 0
        self.sent = b""
        self.takes = asyncio.Event()

    async def receive(self) -> Message:
        if not self._parts:
            await asyncio.Event().wait()
        part = self._parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(self._parts)}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            await self.takes.wait()
            self.sent += message["body"]

    async def answer(self, line: bytes) -> dict[str, str]:
        self.asked += 1
        return {"a": line.decode()}


async def run(client: Client, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        await JsonLines(client.answer, 1)({}, client.receive, client.send)


def test_a_client_that_does_not_read_has_no_more_tasks_than_the_limit() -> None:
    async def flood() -> None:
        client = Client(*[b"1\n" * 100] * 100)
        running = asyncio.create_task(run(client))
        for _ in range(2000):
            await asyncio.sleep(0)
        assert client.asked == MAX_IN_FLIGHT
        client.takes.set()
        await running
        assert client.asked == 10_000
        assert client.sent == b"".join(b'{"line":%d,"a":"1"}\n' % n for n in range(1, 10_001))

    asyncio.run(flood())


def test_answers_come_in_the_order_of_completion() -> None:
    async def race() -> bytes:
        client = Client(b"0.2\n0.0\n0.1\n")
        client.takes.set()

        async def answer(line: bytes) -> dict[str, float]:
            await asyncio.sleep(float(line))
            return {"a": float(line)}

        await JsonLines(answer, 1)({}, client.receive, client.send)
        return client.sent

    told = b'{"line":2,"a":0.0}\n{"line":3,"a":0.1}\n{"line":1,"a":0.2}\n'
    assert asyncio.run(race()) == told


def test_a_line_may_come_in_any_parts_and_has_a_limit() -> None:
    async def sent(*parts: bytes) -> bytes:
        client = Client(*parts)
        client.takes.set()
        await run(client)
        return client.sent

    told = b'{"line":1,"a":"ab"}\n{"line":2,"a":"c"}\n{"line":3,"a":"d"}\n'
    assert asyncio.run(sent(b"a", b"", b"b\nc\n", b"\n", b"d")) == told
    refused = asyncio.run(sent(b"a\n", b"x" * MAX_BODY, b"x"))
    error = b'{"line":2,"status":413,"error":"the line is larger than 1,048,576 bytes"}\n'
    assert sorted(refused.splitlines(keepends=True)) == [b'{"line":1,"a":"a"}\n', error]


def test_an_error_has_the_number_of_its_line() -> None:
    async def refuse(line: bytes) -> Any:
        raise Conflict(line.decode())

    async def sent() -> bytes:
        client = Client(b"one\ntwo")
        client.takes.set()
        await JsonLines(refuse, 1)({}, client.receive, client.send)
        return client.sent

    assert issubclass(Conflict, RequestError)
    assert [json.loads(line)["line"] for line in asyncio.run(sent()).splitlines()] == [1, 2]
