"""Request ids and log lines, over real HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import wait_until
from tests.service import INFER, QUESTION, Service, serving


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Service]:
    """The service with JSON logs, and no broker."""
    folder = tmp_path_factory.mktemp("logging")
    with serving(folder, artifact, {"PETAL_API_LOG_JSON": "on"}, broker=False) as running:
        yield running


def test_a_requests_id_is_the_clients_or_a_new_one(service: Service) -> None:
    def id_of(**headers: str) -> str:
        return service.call("GET", "/nowhere", None, **headers).headers["x-request-id"]

    assert id_of(x_request_id="a-b_c.1") == "a-b_c.1"
    made = {id_of(), id_of(), id_of(x_request_id="two words"), id_of(x_request_id="x" * 129)}
    assert len(made) == 4
    assert all(0 < len(one) < 40 and " " not in one for one in made)


def lines(service: Service, request_id: str) -> list[dict[str, Any]]:
    [log] = service.pipeline.folder.glob("*-api.log")
    whole = log.read_text().rpartition("\n")[0].splitlines()  # the last line may be half written
    found = [json.loads(line) for line in whole]
    return [line for line in found if line.get("request_id") == request_id]


def test_each_request_is_one_line_of_json_with_its_id(service: Service) -> None:
    service.call("POST", INFER, QUESTION, x_request_id="logged-1")
    service.call("POST", "/tasks", {"X": [[1, 2, 3, 4]]}, x_request_id="logged-2")
    wait_until(lambda: len(lines(service, "logged-2")) == 2, 10, "two lines of the second")
    [line] = lines(service, "logged-1")
    assert line["ms"] > 0
    assert {k: v for k, v in line.items() if k not in ("time", "pid", "ms")} == {
        "level": "INFO",
        "logger": "api.access",
        "process": "api",
        "message": f"POST {INFER} 200",
        "request_id": "logged-1",
        "method": "POST",
        "path": INFER,
        "status": 200,
    }
    warning, answered = lines(service, "logged-2")
    assert (warning["level"], warning["logger"]) == ("WARNING", "api.tasks.routes")
    assert answered["status"] == 503
