"""Counters, request ids and log lines, over real HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from model.artifact import Loaded
from tests.processes import wait_until
from tests.service import INFER, QUESTION, Service, serving

Series = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Service]:
    """The service with JSON logs, and no broker."""
    folder = tmp_path_factory.mktemp("metrics")
    with serving(folder, artifact, {"PETAL_API_LOG_JSON": "on"}, broker=False) as running:
        yield running


def counted(service: Service) -> Series:
    families = text_string_to_metric_families(service.call("GET", "/metrics").text)
    return {(s.name, tuple(s.labels.values())): s.value for f in families for s in f.samples}


def test_requests_are_counted_by_route_and_inferences_by_model_and_version(
    service: Service, loaded: Loaded
) -> None:
    before = counted(service)
    two = [[5.1, 3.5, 1.4, 0.2]] * 2
    tensor = {"name": "X", "shape": [2, 4], "datatype": "FP64", "data": two}
    bodies: list[Any] = [QUESTION, {"inputs": [tensor]}, {"inputs": []}]
    for body in bodies:
        service.call("POST", INFER, body)
    for path in ("/nowhere", "/elsewhere"):
        service.call("GET", path)
    service.call("TRACE", "/v2")
    after = counted(service)
    model = ("iris", loaded.card.sha256[:12])
    infer = ("POST", "/v2/models/{model}/infer")
    expected = {
        ("model_infer_request_success_total", model): 2,
        ("model_infer_request_failure_total", model): 1,
        ("model_infer_rows_total", model): 3,
        ("model_infer_queue_duration_seconds_count", model): 2,
        ("model_infer_compute_duration_seconds_count", model): 2,
        ("rest_server_requests_total", (*infer, "200")): 2,
        ("rest_server_requests_total", (*infer, "400")): 1,
        ("rest_server_request_duration_seconds_count", infer): 3,
        ("rest_server_requests_total", ("GET", "other", "404")): 2,
        ("rest_server_requests_total", ("other", "/v2", "405")): 1,
    }
    assert {key: after[key] - before.get(key, 0) for key in expected} == expected
    assert after["rest_server_requests_in_progress", ()] == 1  # this request itself
    spent = after["model_infer_compute_duration_seconds_sum", model]
    assert 0 < spent < 5


def test_a_requests_id_is_the_clients_or_a_new_one(service: Service) -> None:
    def id_of(**headers: str) -> str:
        return service.call("GET", "/nowhere", None, **headers).headers["x-request-id"]

    assert id_of(x_request_id="a-b_c.1") == "a-b_c.1"
    made = {id_of(), id_of(), id_of(x_request_id="two words"), id_of(x_request_id="x" * 129)}
    assert len(made) == 4
    assert all(0 < len(one) < 40 and " " not in one for one in made)


def lines(service: Service, request_id: str) -> list[dict[str, Any]]:
    [log] = service.pipeline.folder.glob("*-api.log")
    # The last line may be half written; infra logs in plain text that it waits for the broker.
    whole = log.read_text().rpartition("\n")[0].splitlines()
    found = [json.loads(line) for line in whole if not line.startswith("petalstream: ")]
    return [line for line in found if line.get("request_id") == request_id]


def test_each_request_is_one_line_of_json_with_its_id(service: Service) -> None:
    service.call("POST", INFER, QUESTION, x_request_id="logged-1")
    service.call("POST", "/tasks", {"X": [[1, 2, 3, 4]]}, x_request_id="logged-2")
    wait_until(lambda: len(lines(service, "logged-2")) == 2, 10, "two lines of the second")
    [logged] = lines(service, "logged-1")
    assert logged["ms"] > 0
    assert {k: v for k, v in logged.items() if k not in ("time", "ms")} == {
        "level": "INFO",
        "logger": "api.access",
        "message": f"POST {INFER} 200",
        "request_id": "logged-1",
        "method": "POST",
        "path": INFER,
        "status": 200,
    }
    warning, answered = lines(service, "logged-2")
    assert (warning["level"], warning["logger"]) == ("WARNING", "api.tasks.routes")
    assert answered["status"] == 503
