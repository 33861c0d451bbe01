"""The REST service over real HTTP."""

import asyncio
import gc
import io
import json
import signal
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from api.body import MAX_BODY
from infra.config import Settings
from model.artifact import Loaded
from model.predict import predict
from tests.processes import Pipeline, free_port, settings_for, wait_until
from tests.service import call, in_thread, serving

INFER = "/v2/models/iris/infer"
QUESTION = {
    "id": "q1",
    "inputs": [
        {"name": "X", "shape": [1, 4], "datatype": "FP64", "data": [[5.1, 3.5, 1.4, 0.2]]},
    ],
}


@pytest.fixture(scope="module")
def url(artifact: Path) -> Iterator[str]:
    with in_thread(Settings(model=artifact, embedded_port=free_port(), max_rows=100)) as address:
        yield address


def test_an_inference_is_answered_as_the_model_answers_in_process(url: str, loaded: Loaded) -> None:
    X = [[5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 5.0, 2.0], [6.0, 2.7, 4.0, 1.2]]
    tensor = {"name": "X", "shape": [3, 4], "datatype": "FP64", "data": X}
    reply = call("POST", url + INFER, json={"inputs": [tensor]})
    y, proba, _ = predict(loaded.model, np.array(X))
    assert proba is not None
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json == {
        "model_name": "iris",
        "model_version": loaded.card.sha256[:12],
        "outputs": [
            {"name": "predict", "shape": [3], "datatype": "BYTES", "data": y},
            {
                "name": "predict_proba",
                "shape": [3, 3],
                "datatype": "FP64",
                "data": [p for row in proba for p in row],
            },
        ],
    }


def test_health_and_metadata(url: str, loaded: Loaded) -> None:
    version = loaded.card.sha256[:12]
    assert call("GET", url + "/v2/health/live").json == {"live": True}
    assert call("GET", url + "/v2/health/ready").json == {"ready": True}
    for server in ("/v2", "/v2/"):
        assert call("GET", url + server).json == {
            "name": "petalstream",
            "version": "0.1.0",
            "extensions": [
                "binary_tensor_data",
                "model_repository",
                "model_configuration",
                "statistics",
            ],
        }
    for model in ("/v2/models/iris", f"/v2/models/iris/versions/{version}"):
        assert call("GET", f"{url}{model}/ready").json == {"ready": True, "name": "iris"}
        metadata = call("GET", url + model).json
        assert metadata["versions"] == [version]
        assert metadata["inputs"] == [{"name": "X", "datatype": "FP64", "shape": [-1, 4]}]
        assert metadata["outputs"] == [
            {"name": "predict", "datatype": "BYTES", "shape": [-1]},
            {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 3]},
        ]
        assert metadata["parameters"]["model_id"] == loaded.card.id
        assert metadata["parameters"]["classes"] == ["setosa", "versicolor", "virginica"]
        assert call("POST", f"{url}{model}/infer", json=QUESTION).json["id"] == "q1"


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/nowhere", 404, "Not Found"),
        ("GET", "/v2/models/rose", 404, "no model 'rose' is served here"),
        ("GET", "/v2/models/iris/versions/1", 404, "no model 'iris@1' is served here"),
        ("POST", "/v2/models/rose/infer", 404, "no model 'rose' is served here"),
        ("TRACE", "/v2", 405, "Method Not Allowed"),
        ("GET", "/bug", 500, "Internal Server Error"),
    ],
)
def test_every_error_is_json(url: str, method: str, path: str, status: int, error: str) -> None:
    reply = call(method, url + path, headers={"Accept": "text/html"})
    assert (reply.status, reply.json) == (status, {"error": error})


def test_a_wrong_method_gets_the_allowed_one(url: str) -> None:
    reply = call("GET", url + INFER)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP64","data":[NaN,1,1,1]}]}',
         "application/json; charset=utf-8", 400),
        (json.dumps(QUESTION).encode(), "application/json; charset=utf-8", 200),
        (json.dumps(QUESTION).encode(), "text/plain", 415),
        (json.dumps(QUESTION).encode(), "multipart/form-data; boundary=x", 415),
        (b'{"inputs":[{"name":"X","shape":[101,4],"datatype":"FP64","data":[]}]}',
         "application/json", 413),
    ],
)  # fmt: skip
def test_bodies_are_answered_with_their_status(
    url: str, body: bytes, content_type: str, status: int
) -> None:
    reply = call("POST", url + INFER, data=body, headers={"Content-Type": content_type})
    assert reply.status == status
    assert (status == 200) != ("error" in reply.json)


def test_a_body_over_the_limit_is_refused(url: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * (MAX_BODY // 16)

    headers = {"Content-Type": "application/json"}
    refused = {"error": "the body is larger than 1,048,576 bytes"}
    for data in (io.BytesIO(b" " * (MAX_BODY + 1)), chunks()):
        reply = call("POST", url + INFER, data=data, headers=headers)
        assert (reply.status, reply.json) == (413, refused)
    just_fits = io.BytesIO(b" " * (MAX_BODY - 2) + b"{}")
    assert call("POST", url + INFER, data=just_fits, headers=headers).status == 400


def test_each_of_many_concurrent_clients_gets_its_own_answer(url: str, loaded: Loaded) -> None:
    rows = [[4.0 + i / 20, 3.0, 1.0 + i / 12, 0.1 + i / 30] for i in range(64)]
    expected = predict(loaded.model, np.array(rows)).y

    async def ask(session: aiohttp.ClientSession, i: int) -> tuple[str, list[str]]:
        tensor = {"name": "X", "shape": [1, 4], "datatype": "FP64", "data": rows[i]}
        body = {"id": str(i), "inputs": [tensor], "outputs": [{"name": "predict"}]}
        async with session.post(url + INFER, json=body) as response:
            answer = await response.json()
            return answer["id"], answer["outputs"][0]["data"]

    async def all_at_once() -> list[tuple[str, list[str]]]:
        async with aiohttp.ClientSession() as session:
            return await asyncio.gather(*(ask(session, i) for i in range(64)))

    assert asyncio.run(all_at_once()) == [(str(i), [expected[i]]) for i in range(64)]


def test_garbage_collection_is_relaxed_while_serving_and_restored_after(artifact: Path) -> None:
    before = gc.get_threshold()
    with in_thread(Settings(model=artifact, embedded_port=free_port())):
        assert gc.get_threshold() == (200_000, 20, 50)
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == before


def test_a_missing_model_ends_the_start_with_one_line(tmp_path: Path) -> None:
    with Pipeline(tmp_path, settings_for(tmp_path, tmp_path / "none.joblib")) as p:
        process = p.start("uvicorn", "api.app:app", "--port", p.env["PETAL_API_PORT"])
        wait_until(lambda: process.exit_code is not None, 30, "uvicorn ends")
        assert process.exit_code not in (0, None)
        assert "Traceback" not in process.output
        told = [line for line in process.output.splitlines() if "petalstream:" in line]
        assert len(told) == 1
        assert told[0].endswith("create one: petal train")


def test_a_client_that_disconnects_within_its_body_is_counted_as_gone(
    tmp_path: Path, artifact: Path
) -> None:
    with serving(tmp_path, artifact, broker=False) as service:
        for path in ("/tasks", "/v2/repository/index", INFER):
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n"
            with service.connect() as connection:
                connection.sendall(head.encode() + b"{")
        gone = 'path="{}",status_code="499"}} 1.0'
        paths = ("/tasks", "/v2/repository/index", "/v2/models/{model}/infer")

        def counted() -> bool:
            text = service.call("GET", "/metrics").text
            return all(gone.format(path) in text for path in paths)

        wait_until(counted, 10, "three clients are gone")
        assert "Traceback" not in service.pipeline.processes[-1].output


def test_a_request_that_outlasts_the_grace_at_a_stop_gets_503(
    tmp_path: Path, artifact: Path
) -> None:
    """uvicorn cancels it. The model goes on in its thread, and the process ends after that."""
    with Pipeline(tmp_path, settings_for(tmp_path, artifact)) as p:
        grace = "--timeout-graceful-shutdown", "1"
        p.env["PETAL_CPU_BOUND_MS"] = "4000"
        process = p.api("api.app:cpu_bound", *grace)
        with ThreadPoolExecutor(1) as executor:
            url = p.env["PETAL_API_URL"]
            asked = executor.submit(call, "POST", url + INFER, json=QUESTION)
            busy = "rest_server_requests_in_progress 2.0"
            wait_until(lambda: busy in call("GET", f"{url}/metrics").text, 10, "the model is busy")
            process.send(signal.SIGTERM)
            reply = asked.result(20)
        assert (reply.status, reply.json) == (503, {"error": "the service is stopping; retry"})
        assert reply.headers["retry-after"] == "1"
        wait_until(lambda: process.exit_code is not None, 20, "uvicorn ends")
        assert "Traceback" not in process.output


def test_the_service_ends_in_order_at_a_signal(tmp_path: Path, artifact: Path) -> None:
    with Pipeline(tmp_path, settings_for(tmp_path, artifact)) as p:
        process = p.api().wait_for("Uvicorn running")
        assert call("POST", p.env["PETAL_API_URL"] + INFER, json=QUESTION).status == 200
        process.send(signal.SIGTERM)
        wait_until(lambda: process.exit_code is not None, 20, "uvicorn ends")
        assert "Application shutdown complete" in process.output
        assert "Traceback" not in process.output
