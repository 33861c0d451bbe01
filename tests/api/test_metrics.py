"""Counters over real HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from model.artifact import Loaded
from tests.service import INFER, QUESTION, Service, serving

Series = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("metrics"), artifact, broker=False) as running:
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
