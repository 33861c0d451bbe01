"""Tasks that the broker confirms late or never: lines wait, and later answers say what happened."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from streams.events import new_id
from tests.processes import Process, wait_until
from tests.service import Reply, Service, serving

ROW = [5.1, 3.5, 1.4, 0.2]
JSONL = {"content_type": "application/jsonl"}
BUSY_SECONDS = 3.0  # longer than a single request waits, shorter than a stream does


@pytest.fixture
def service(tmp_path: Path, artifact: Path) -> Iterator[Service]:
    with serving(tmp_path, artifact, {"PETAL_DELIVERY_TIMEOUT": "20"}) as running:
        assert running.call("POST", "/tasks", {"X": [ROW]}).status == 202  # it is connected
        yield running


@contextmanager
def silent(broker: Process) -> Iterator[None]:
    """The broker does not answer, as one that is busy."""
    processes = psutil.Process(broker.pid).children(recursive=True)
    assert processes
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def lines(service: Service, ids: list[str]) -> list[dict[str, Any]]:
    body = b"\n".join(json.dumps({"id": i, "X": [ROW] * 20}).encode() for i in ids)
    reply = service.call("POST", "/tasks", body, **JSONL)
    assert reply.status == 200
    return [json.loads(line) for line in reply.body.splitlines()]


def test_lines_wait_for_a_broker_that_is_busy(service: Service) -> None:
    ids = [new_id() for _ in range(600)]
    got: list[dict[str, Any]] = []
    with silent(service.pipeline.processes[0]):
        sending = threading.Thread(target=lambda: got.extend(lines(service, ids)))
        sending.start()
        sending.join(BUSY_SECONDS)
        assert sending.is_alive()
    sending.join(20)
    assert {a["id"] for a in got if "offset" in a} == set(ids)


def pending(service: Service, task_id: str) -> Reply:
    return service.call("GET", f"/tasks/{task_id}")


def unanswered(service: Service) -> set[str]:
    done = service.pipeline.run("reconcile", "--older-than", "0s", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout)["tasks"])


def test_an_unconfirmed_task_is_pending_only_once_the_broker_has_it(service: Service) -> None:
    late, lost = new_id(), new_id()
    broker = service.pipeline.processes[0]
    with silent(broker):
        refused = service.call("POST", "/tasks", {"id": late, "X": [ROW]})
        assert (refused.status, refused.json["id"]) == (503, late)
        assert pending(service, late).status == 404
        assert pending(service, late).json == {
            "error": f"the task queue did not confirm task {late}; send it again"
        }
    wait_until(lambda: pending(service, late).status == 202, 10, "the broker confirms it late")
    assert late in unanswered(service)
    broker.stop()
    assert service.call("POST", "/tasks", {"id": lost, "X": [ROW]}).status == 503
    assert pending(service, lost).status == 404


def test_refused_lines_are_counted_and_logged(service: Service) -> None:
    bad = b'{"X": [[1]]}\n' * 3 + b"{\n" + json.dumps({"X": [ROW]}).encode()
    assert service.call("POST", "/tasks", bad, **JSONL).status == 200
    text = service.call("GET", "/metrics").text
    assert 'rest_server_lines_refused_total{status_code="422"} 3.0' in text
    assert 'rest_server_lines_refused_total{status_code="400"} 1.0' in text
    process = service.pipeline.processes[-1]
    process.wait_for("refused 3 lines of a request: 422")
    process.wait_for("refused 1 lines of a request: 400")
