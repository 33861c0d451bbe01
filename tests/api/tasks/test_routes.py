"""Tasks over HTTP, with a real broker and no worker."""

import asyncio
import io
import json
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from api.tasks import routes as tasks
from infra.topics import TASKS
from model.artifact import Loaded
from streams.codec import encode, input_digest
from streams.events import Failure, Position, Result, Task, Timings, is_id, new_id
from streams.projection.store import Store
from streams.records import Chunk
from tests.processes import Pipeline, Process, settings_for, wait_until
from tests.service import call, serving

ROW = [5.1, 3.5, 1.4, 0.2]
PROMPT = 2.0  # seconds, within which a missing broker must be told
STOPPED = 3.0  # seconds in which waiting clients must learn of a stop; less than its grace


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any
    seconds: float


async def _call(method: str, url: str, **kwargs: Any) -> Reply:
    start = time.perf_counter()
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, **kwargs) as response,
    ):
        body = await response.json()
        headers = {k.lower(): v for k, v in response.headers.items()}
        return Reply(response.status, headers, body, time.perf_counter() - start)


class Service(NamedTuple):
    pipeline: Pipeline
    url: str

    def post(self, body: Any, **headers: str) -> Reply:
        data = io.BytesIO(json.dumps(body).encode())
        headers["Content-Type"] = "application/json"
        return asyncio.run(_call("POST", self.url + "/tasks", data=data, headers=headers))

    def get(self, task_id: str) -> Reply:
        return asyncio.run(_call("GET", f"{self.url}/tasks/{task_id}"))

    @property
    def database(self) -> Path:
        return Path(self.pipeline.env["PETAL_DATABASE"])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Service]:
    """The REST service and the broker; a test creates the database."""
    folder = tmp_path_factory.mktemp("tasks")
    with Pipeline(folder, settings_for(folder, artifact)) as p:
        p.broker()
        p.api().wait_for("Uvicorn running")
        yield Service(p, p.env["PETAL_API_URL"])


@pytest.fixture
def alone(tmp_path: Path, artifact: Path) -> Iterator[Service]:
    """The REST service without a broker."""
    with Pipeline(tmp_path, settings_for(tmp_path, artifact)) as p:
        p.api().wait_for("Uvicorn running")
        yield Service(p, p.env["PETAL_API_URL"])


async def _published(pipeline: Pipeline, partition: int, offset: int) -> Any:
    server = f"127.0.0.1:{pipeline.env['PETAL_EMBEDDED_PORT']}"
    consumer = AIOKafkaConsumer(bootstrap_servers=server, fetch_max_wait_ms=20)
    await consumer.start()
    try:
        place = TopicPartition(TASKS, partition)
        consumer.assign([place])
        consumer.seek(place, offset)
        return await asyncio.wait_for(consumer.getone(), 10)
    finally:
        await consumer.stop()


def test_a_task_is_accepted_with_its_place_in_the_log(service: Service) -> None:
    reply = service.post({"X": [ROW, ROW]})
    task_id = reply.body["id"]
    assert is_id(task_id)
    assert (reply.status, reply.headers["location"]) == (202, f"/tasks/{task_id}")
    place = reply.body["partition"], reply.body["offset"]
    record = asyncio.run(_published(service.pipeline, *place))
    task = msgspec.json.decode(record.value, type=Task)
    assert (record.key, task.id, task.X) == (task_id.encode(), task_id, [ROW, ROW])
    assert abs(time.time() - task.at) < 60


def test_a_client_may_choose_the_id_and_name_the_model(service: Service, loaded: Loaded) -> None:
    task_id = new_id()
    for model in ("iris", loaded.card.id):
        reply = service.post({"X": [ROW], "id": task_id, "model": model})
        assert (reply.status, reply.body["id"]) == (202, task_id)


def test_an_accepted_task_is_pending_until_its_result_is_stored(service: Service) -> None:
    task_id = service.post({"X": [ROW]}).body["id"]
    pending = service.get(task_id)
    assert (pending.status, pending.body) == (202, {"id": task_id, "status": "pending"})
    assert service.get(new_id()).status == 404
    result = _result(task_id)
    _store(service.database, result)
    answered = service.get(task_id)
    assert answered.status == 200
    assert msgspec.convert(answered.body, Result) == result
    service.database.unlink()


def test_an_id_belongs_to_one_task(service: Service) -> None:
    pending, answered = new_id(), new_id()
    result = msgspec.structs.replace(_result(answered), input=input_digest([ROW]))
    _store(service.database, result)
    try:
        assert service.post({"X": [ROW], "id": pending}).status == 202
        assert service.post({"X": [ROW], "id": pending}).status == 202
        again = service.post({"X": [ROW], "id": answered})
        assert (again.status, msgspec.convert(again.body, Result)) == (200, result)
        for task_id in (pending, answered):
            other = service.post({"X": [ROW, ROW], "id": task_id})
            message = f"id_conflict: the id {task_id} belongs to another task"
            assert (other.status, other.body) == (409, {"error": message})
    finally:
        service.database.unlink()


def test_one_of_several_concurrent_tasks_with_the_same_id_is_accepted(service: Service) -> None:
    async def race(task_id: str) -> list[int]:
        calls = (
            _call("POST", f"{service.url}/tasks", json={"X": [[*ROW[:3], n]], "id": task_id})
            for n in range(4)
        )
        return sorted([reply.status for reply in await asyncio.gather(*calls)])

    for _ in range(10):
        assert asyncio.run(race(new_id())) == [202, 409, 409, 409]


def test_a_task_that_is_sent_several_times_at_once_is_accepted_each_time(service: Service) -> None:
    async def race(task_id: str) -> list[int]:
        url, task = f"{service.url}/tasks", {"X": [ROW], "id": task_id}
        calls = (_call("POST", url, json=task) for _ in range(4))
        return [reply.status for reply in await asyncio.gather(*calls)]

    assert asyncio.run(race(new_id())) == [202] * 4


def _result(task_id: str, **changes: Any) -> Result:
    answer = changes or {"y": ["setosa"], "proba": [[0.9, 0.1, 0.0]]}
    return Result(
        v=1,
        id=task_id,
        model="iris@0123456789ab",
        worker="here-1",
        task=Position(0, 7),
        ms=Timings(1.0, 0.5),
        **answer,
    )


class Record(NamedTuple):
    offset: int
    timestamp: int
    value: bytes | None


def _store(database: Path, *results: Result) -> None:
    store = Store(database, "a-log")
    records = [Record(i, 1000 + i, encode(r)) for i, r in enumerate(results)]
    store.apply(Chunk("results", 0, 0, records))
    store.close()


def test_a_replaced_database_is_seen_at_once(tmp_path: Path) -> None:
    database, task_id = tmp_path / "petal.sqlite", new_id()
    assert tasks.stored(database, task_id) is None
    _store(database, _result(new_id()))
    assert tasks.stored(database, task_id) is None
    refused = _result(task_id, error=Failure("wrong_width", "got 5 features, the model wants 4"))
    _store(tmp_path / "other.sqlite", refused)
    (tmp_path / "other.sqlite").replace(database)
    assert tasks.stored(database, task_id) == refused


def test_a_broken_database_is_unavailable_and_its_path_is_not_shown(
    service: Service,
) -> None:
    service.database.write_bytes(b"no database at all" * 100)
    try:
        reply = service.get(new_id())
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert reply.body == {"error": "the results cannot be read at this moment"}
    finally:
        service.database.unlink()


def test_an_invalid_task_id_is_refused(service: Service) -> None:
    for text in ("1", new_id().upper(), "00000000-0000-1000-8000-000000000000", "%27%20or"):
        reply = service.get(text)
        assert (reply.status, reply.body) == (400, {"error": "a task's id is a lower-case UUID4"})


def test_an_invalid_row_is_refused_with_its_code(service: Service) -> None:
    reply = service.post({"X": [ROW, [5.1, None, 1.4, 0.2]]})
    message = "row 2 of 2, sepal_width: the value is missing; a number is required"
    assert (reply.status, reply.body) == (422, {"error": message, "code": "wrong_type"})


def test_a_wait_without_a_worker_ends_in_pending(service: Service) -> None:
    reply = service.post({"X": [ROW]}, Prefer="respond-async, wait=1")
    assert reply.status == 202
    assert reply.headers["preference-applied"] == "wait=1"
    assert reply.body == {"id": reply.headers["location"].removeprefix("/tasks/"),
                          "status": "pending"}  # fmt: skip
    assert 1 <= reply.seconds < 5
    assert service.get(reply.body["id"]).status == 202


def test_a_task_too_large_for_the_topic_is_refused(service: Service) -> None:
    row = [1.0000000000000002] * 4
    reply = service.post({"X": [row] * 12_800})
    assert (reply.status, list(reply.body)) == (413, ["error"])


def test_without_a_broker_tasks_are_refused_promptly_and_inference_goes_on(alone: Service) -> None:
    for headers in ({}, {"Prefer": "wait=10"}):
        reply = alone.post({"X": [ROW]}, **headers)
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert reply.body == {"error": "the task queue is away; nothing was accepted"}
        assert reply.seconds < PROMPT
    tensor = {"name": "X", "shape": [1, 4], "datatype": "FP64", "data": ROW}
    infer = alone.url + "/v2/models/iris/infer"
    assert asyncio.run(_call("POST", infer, json={"inputs": [tensor]})).status == 200


def _accepted(service: Service) -> bool:
    return service.post({"X": [ROW]}).status == 202


def _listens(service: Service) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", int(service.pipeline.env["PETAL_EMBEDDED_PORT"]))) == 0


def test_the_service_recovers_when_the_broker_starts_and_restarts(alone: Service) -> None:
    assert not _accepted(alone)
    broker: Process = alone.pipeline.broker()
    wait_until(lambda: _accepted(alone), 20, "a task is accepted after the broker came")
    broker.stop()
    wait_until(lambda: not _listens(alone), 10, "the broker is gone")
    task_id = new_id()
    reply = alone.post({"X": [ROW], "id": task_id})
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert reply.body["id"] == task_id
    assert reply.seconds < PROMPT
    alone.pipeline.broker()
    wait_until(lambda: _accepted(alone), 30, "a task is accepted after the broker came back")


def test_an_id_whose_task_was_not_accepted_is_free(alone: Service) -> None:
    task_id = new_id()
    assert alone.post({"X": [ROW], "id": task_id}).status == 503
    alone.pipeline.broker()
    wait_until(lambda: _accepted(alone), 20, "a task is accepted after the broker came")
    assert alone.post({"X": [ROW, ROW], "id": task_id}).status == 202


def test_an_id_whose_task_may_be_published_is_kept(alone: Service) -> None:
    broker = alone.pipeline.broker()
    wait_until(lambda: _accepted(alone), 20, "a task is accepted after the broker came")
    broker.stop()
    wait_until(lambda: not _listens(alone), 10, "the broker is gone")
    task_id = new_id()
    for X, status in (([ROW], 503), ([ROW, ROW], 409), ([ROW], 503)):
        assert alone.post({"X": X, "id": task_id}).status == status


def test_a_result_comes_from_a_broker_that_restarted_without_its_log(alone: Service) -> None:
    """The worker notices the new log too, after some seconds."""
    broker = alone.pipeline.broker()
    alone.pipeline.worker()
    wait_until(lambda: _accepted(alone), 20, "a task is accepted")
    for _ in range(60):
        assert alone.post({"X": [ROW]}, Prefer="wait=20").status == 200
    broker.stop()
    alone.pipeline.broker()
    wait_until(lambda: _accepted(alone), 20, "a task is accepted by the new broker")
    reply = alone.post({"X": [ROW]}, Prefer="wait=20")
    assert (reply.status, reply.body.get("y")) == (200, ["setosa"])


@pytest.fixture
def stopping(tmp_path: Path, artifact: Path) -> Iterator[Service]:
    """The service as the Procfile runs it, the second process, with a broker and no worker."""
    with serving(tmp_path, artifact, {"PETAL_API_LOG_JSON": "on"}) as running:
        service = Service(running.pipeline, running.url)
        wait_until(lambda: _accepted(service), 20, "a task is accepted")
        yield service


def _stop_amid(service: Service, kind: str, *tasks: Any) -> tuple[int, dict[str, str], Any]:
    """The response to a request that waits when the service gets SIGTERM."""
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(_post, service, kind, b"\n".join(map(encode, tasks)))
        wait_until(lambda: _in_progress(service) == 2, 10, "the request is there")
        assert not waiting.done()
        service.pipeline.processes[1].send(signal.SIGTERM)
        return waiting.result(STOPPED)


def _post(service: Service, kind: str, body: bytes) -> tuple[int, dict[str, str], Any]:
    headers = {"content-type": kind, "prefer": "wait=30"}
    reply = call("POST", f"{service.url}/tasks", data=body, headers=headers)
    return reply.status, reply.headers, [json.loads(line) for line in reply.body.splitlines()]


def _in_progress(service: Service) -> float:
    """Open requests, including the one for this number."""
    text = call("GET", f"{service.url}/metrics").text
    [line] = [x for x in text.splitlines() if x.startswith("rest_server_requests_in_progress ")]
    return float(line.split()[1])


def _ends_well(service: Service) -> bool:
    api = service.pipeline.processes[1]
    wait_until(lambda: api.exit_code is not None, STOPPED, "the service ends")
    return "Traceback" not in api.output


def test_a_client_that_waits_at_a_stop_gets_the_id_of_its_pending_task(stopping: Service) -> None:
    status, headers, [body] = _stop_amid(stopping, "application/json", {"X": [ROW]})
    assert is_id(body["id"])
    assert (status, body["status"]) == (202, "pending")
    assert headers["location"] == f"/tasks/{body['id']}"
    assert _ends_well(stopping)


def test_lines_that_wait_at_a_stop_are_reported_as_pending(stopping: Service) -> None:
    ids = [new_id() for _ in range(3)]
    tasks = [{"X": [ROW], "id": task_id} for task_id in ids]
    status, _, answers = _stop_amid(stopping, "application/jsonl", *tasks)
    expected = [{"line": n, "id": i, "status": "pending"} for n, i in enumerate(ids, 1)]
    assert (status, sorted(answers, key=lambda a: a["line"])) == (200, expected)
    assert _ends_well(stopping)


def test_log_lines_of_the_kafka_client_belong_to_no_request(stopping: Service) -> None:
    broker, api = stopping.pipeline.processes
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert stopping.post({"X": [ROW]}, Prefer="wait=1", Traceparent=trace).status == 202

    def told() -> list[dict[str, Any]]:
        lines = [json.loads(x) for x in api.output.splitlines(keepends=True) if x[-2:] == "}\n"]
        return [line for line in lines if line["logger"].startswith("aiokafka")]

    broker.stop()
    wait_until(told, 20, "the client says that its broker is gone")
    assert [line for line in told() if {"request_id", "trace_id"} & line.keys()] == []


def test_a_request_that_outlasts_the_grace_is_cut_without_a_traceback(
    tmp_path: Path, artifact: Path
) -> None:
    head = b"POST /tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/jsonl\r\n"
    with Pipeline(tmp_path, settings_for(tmp_path, artifact)) as p:
        p.broker()
        api = p.api("api.app:app", "--timeout-graceful-shutdown", "1").wait_for("Uvicorn running")
        port = int(p.env["PETAL_API_PORT"])
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(head + b"transfer-encoding: chunked\r\n\r\n2\r\n{\n\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
            api.send(signal.SIGTERM)
            while connection.recv(65_536):
                pass
        wait_until(lambda: api.exit_code is not None, 10, "the service ends")
        assert "Traceback" not in api.output


def test_an_id_is_unknown_if_its_client_disconnected_before_it_was_published(
    alone: Service,
) -> None:
    broker = alone.pipeline.broker()
    wait_until(lambda: _accepted(alone), 20, "a task is accepted")
    [tansu] = psutil.Process(broker.pid).children()
    tansu.suspend()  # so that the reader of results, which is not there yet, takes its time
    task_id = new_id()
    task = json.dumps({"X": [ROW], "id": task_id}).encode() + b"\n"
    head = (
        b"POST /tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/jsonl\r\n"
        b"prefer: wait=30\r\ncontent-length: %d\r\n\r\n" % len(task)
    )
    port = int(alone.pipeline.env["PETAL_API_PORT"])
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(head + task)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        time.sleep(0.3)  # the task is on its way to the reader
    tansu.resume()
    url = f"{alone.url}/tasks/{task_id}"
    wait_until(lambda: asyncio.run(_call("GET", url)).status == 404, 5, "the id is nobody's")


def test_a_broker_that_does_not_answer_does_not_delay_the_stop(
    tmp_path: Path, artifact: Path
) -> None:
    """honcho kills 5 s after SIGTERM."""
    with Pipeline(tmp_path, settings_for(tmp_path, artifact)) as p:
        broker = p.broker()
        api = p.start(sys.executable, "-m", "api")
        service = Service(p, p.env["PETAL_API_URL"])
        wait_until(lambda: _accepts(service), 30, "a task is accepted")
        [tansu] = psutil.Process(broker.pid).children()
        tansu.suspend()
        try:
            with ThreadPoolExecutor(1) as executor:
                asked = executor.submit(service.post, {"X": [ROW]})
                busy = "rest_server_requests_in_progress 2.0"
                wait_until(lambda: busy in call("GET", f"{service.url}/metrics").text, 10, busy)
                start = time.monotonic()
                api.send(signal.SIGTERM)
                wait_until(lambda: api.exit_code is not None, 10, "the service ends")
                assert time.monotonic() - start < 5
                assert asked.result().status == 503
        finally:
            tansu.resume()


def _accepts(service: Service) -> bool:
    try:
        return _accepted(service)
    except aiohttp.ClientError:  # it does not listen yet
        return False
