"""Metrics and health over real HTTP."""

import http.client
import json
import socket
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

from infra.config import Settings
from infra.errors import ConfigError
from infra.process.endpoint import MAX_REQUESTS, Endpoint, Pages, keys_for
from infra.security import Secret
from tests.processes import free_port, wait_until

KEY = "a-key-for-the-tests-only"


class Served:
    """An endpoint of a process that the test makes sick."""

    def __init__(self, settings: Settings) -> None:
        self.sick: list[str] = []
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        pages = Pages(registry, self.reasons, self.reasons, keys_for(settings))
        self.endpoint = Endpoint(settings, pages)

    def reasons(self) -> Sequence[str]:
        return self.sick

    def call(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Any]:
        host, _, port = self.endpoint.address.rpartition(":")
        with closing(http.client.HTTPConnection(host.strip("[]"), int(port), timeout=5)) as c:
            c.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            reply = c.getresponse()
            text = reply.read().decode()
            is_json = reply.headers["content-type"] == "application/json"
            return reply.status, json.loads(text) if is_json and text else text


def served(**values: Any) -> Served:
    return Served(Settings(**{"metrics_port": free_port(), **values}))


def test_health_is_503_with_the_reasons_and_200_without() -> None:
    process = served()
    assert process.call("/health/live") == (200, {"live": True})
    process.sick = ["the database is locked"]
    reasons = ["the database is locked"]
    assert process.call("/health/ready") == (503, {"ready": False, "reasons": reasons})
    assert process.call("/health/live") == (503, {"live": False, "reasons": reasons})
    assert process.call("/health/ready", "HEAD") == (503, "")


def test_metrics_are_text_and_everything_else_is_refused_with_a_sentence() -> None:
    process = served()
    status, text = process.call("/metrics")
    assert (status, "process_cpu_seconds_total" in text) == (200, True)
    known = {"error": "there are /metrics, /health/live and /health/ready"}
    assert process.call("/") == (404, known)
    assert process.call("/metrics", "POST") == (405, {"error": "this can only be read, by GET"})


def test_a_name_that_another_site_gave_this_address_is_refused() -> None:
    process = served()
    alone = {"error": "without API keys only this machine is answered"}
    assert process.call("/metrics", host="site.example:9464") == (403, alone)
    assert process.call("/health/ready", host="10.0.0.7:9464")[0] == 200


def test_with_keys_metrics_need_one_and_health_needs_none() -> None:
    process = served(api_keys=Secret(KEY))
    needed = {"error": "the metrics require an API key: Authorization: Bearer KEY"}
    for sent in ("", f"Bearer {KEY}x", f"Basic {KEY}"):
        assert process.call("/metrics", authorization=sent) == (401, needed)
    assert process.call("/metrics", authorization=f"Bearer {KEY}", host="a.example")[0] == 200
    assert process.call("/health/ready")[0] == 200


def test_each_process_of_a_machine_takes_the_next_free_port() -> None:
    port = free_port()
    processes = [served(metrics_port=port) for _ in range(3)]
    taken = [int(p.endpoint.address.rpartition(":")[2]) for p in processes]
    assert taken[0] == port
    assert sorted(set(taken)) == taken
    assert [p.call("/health/live")[0] for p in processes] == [200] * 3


def test_an_ipv6_address_is_served_too() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    assert served(metrics_host="::1").call("/health/live")[0] == 200


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"metrics_host": "0.0.0.0"},
            "PETAL_METRICS_HOST=0.0.0.0 can be reached from other machines: set PETAL_API_KEYS or "
            "PETAL_API_KEYS_FILE",
        ),
        (
            {"metrics_host": "192.0.2.7", "api_keys": Secret(KEY)},
            "PETAL_METRICS_HOST=192.0.2.7 is no address of this machine",
        ),
        (
            {"metrics_host": "no such name", "api_keys": Secret(KEY)},
            "PETAL_METRICS_HOST=no such name is no address of this machine",
        ),
        ({"api_keys": Secret("short")}, "a key of PETAL_API_KEYS or its file is shorter than 16"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        served(**settings)
    assert str(refused.value).startswith(sentence)


def test_clients_that_send_nothing_keep_no_probe_waiting() -> None:
    process = served()
    host, _, port = process.endpoint.address.rpartition(":")
    with ExitStack() as stack:
        for _ in range(MAX_REQUESTS - 1):
            stack.enter_context(socket.create_connection((host, int(port))))
        assert process.call("/health/live")[0] == 200
        one_more = [socket.create_connection((host, int(port))) for _ in range(2)]
        for silent in one_more:
            stack.enter_context(silent)
        one_more[1].settimeout(5)
        assert one_more[1].recv(1) == b"", "above the limit, a connection is closed"
    wait_until(lambda: _is_live(process), 10, "room for a probe again")


def _is_live(process: Served) -> bool:
    try:
        return process.call("/health/live")[0] == 200
    except (OSError, http.client.HTTPException):
        return False
