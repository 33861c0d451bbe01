"""Traces as a collector gets them: a small HTTP server keeps what is exported to it."""

import asyncio
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaProducer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from infra.errors import ConfigError
from infra.topics import RESULTS, TASKS
from infra.tracing import Tracing, is_sampled, parse_traceparent
from streams.events import new_id
from tests.processes import Pipeline, free_port, settings_for, wait_until
from tests.service import INFER, QUESTION, Service, record_headers, serving

TRACE_ID, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACE = f"00-{TRACE_ID}-{PARENT}-01"
TASK = {"X": [[5.1, 3.5, 1.4, 0.2]]}
ERROR = 2  # opentelemetry.proto.trace.v1.Status.STATUS_CODE_ERROR


class Span(NamedTuple):
    service: str
    name: str
    trace: str
    id: str
    parent: str
    status: int
    attributes: dict[str, Any]
    seconds: float


class Collector:
    """Takes OTLP over HTTP, as OpenTelemetry's own collector does."""

    def __init__(self) -> None:
        self._bodies: list[bytes] = []
        bodies = self._bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.env = {
            "PETAL_OTEL": "on",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.server.server_port}",
        }

    @property
    def spans(self) -> list[Span]:
        """All exported spans, by their start."""
        requests = [ExportTraceServiceRequest.FromString(body) for body in self._bodies]
        found = [
            (span.start_time_unix_nano, _read(_values(resource.resource), span))
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return [span for _, span in sorted(found, key=lambda pair: pair[0])]


def _values(told: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in told.attributes}


def _read(resource: dict[str, Any], span: Any) -> Span:
    return Span(
        resource["service.name"],
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.status.code,
        _values(span),
        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
    )


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        thread.join()
        collector.server.server_close()


def _stop(service: Service) -> None:
    """Stop all processes; uvicorn ends with the signal that it got."""
    for process in service.pipeline.processes[::-1]:
        assert process.stop() in (0, -signal.SIGTERM), process.output


def _asked(service: Service, task: Any, **headers: str) -> Any:
    got = service.call("POST", "/tasks", task, prefer="wait=20", **headers)
    assert got.status == 200
    return got.json


def test_a_trace_goes_from_the_request_to_the_worker_and_to_the_result(
    tmp_path: Path, artifact: Path, collector: Collector
) -> None:
    task_id = new_id()
    with serving(tmp_path, artifact, collector.env) as service:
        service.pipeline.worker()
        answer = _asked(service, {**TASK, "id": task_id}, traceparent=TRACE)
        headers = {
            topic: asyncio.run(record_headers(service, topic, 1))[task_id.encode()]
            for topic in (TASKS, RESULTS)
        }
        _stop(service)  # what is left is exported at the end, before the 5 s of a batch
    [request, work] = collector.spans
    assert headers == {
        TASKS: (("traceparent", f"00-{TRACE_ID}-{request.id}-01".encode()),),
        RESULTS: (("traceparent", f"00-{TRACE_ID}-{work.id}-01".encode()),),
    }
    assert request._replace(id="", seconds=0) == Span(
        "petal-api", "POST /tasks", TRACE_ID, "", PARENT, 0,
        {
            "http.request.method": "POST",
            "http.response.status_code": 200,
            "http.route": "/tasks",
            "network.protocol.version": "1.1",
            "url.path": "/tasks",
            "url.scheme": "http",
        },
        0,
    )  # fmt: skip
    assert work._replace(id="", seconds=0) == Span(
        "petal-worker", "process tasks", TRACE_ID, "", request.id, 0,
        {
            "messaging.consumer.group.name": "petal-worker",
            "messaging.destination.name": "tasks",
            "messaging.destination.partition.id": str(answer["task"]["partition"]),
            "messaging.kafka.offset": answer["task"]["offset"],
            "messaging.message.id": task_id,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "kafka",
            "petal.model": answer["model"],
        },
        0,
    )  # fmt: skip
    assert min(work.seconds, request.seconds) > 0


async def _publish(server: str, task_id: str, rows: list[list[float]]) -> None:
    """Publish without our client: the service would refuse a task that the worker refuses."""
    value = json.dumps({"v": 1, "id": task_id, "X": rows, "at": time.time()}).encode()
    async with AIOKafkaProducer(bootstrap_servers=server) as producer:
        await producer.send_and_wait(
            TASKS, value, task_id.encode(), headers=[("traceparent", TRACE.encode())]
        )


def test_a_task_that_is_refused_is_an_error_in_its_trace(
    tmp_path: Path, artifact: Path, collector: Collector
) -> None:
    task_id = new_id()
    with Pipeline(tmp_path, settings_for(tmp_path, artifact) | collector.env) as pipeline:
        pipeline.broker()
        worker = pipeline.worker()
        server = f"127.0.0.1:{pipeline.env['PETAL_EMBEDDED_PORT']}"
        asyncio.run(_publish(server, task_id, [[5.1]]))
        assert pipeline.run("wait", task_id, "--json").returncode == 0
        assert worker.stop() == 0
    [span] = collector.spans
    assert (span.parent, span.status) == (PARENT, ERROR)
    assert span.attributes["error.type"] == "wrong_width"
    assert span.attributes["messaging.message.id"] == task_id


def test_only_sampled_requests_have_spans_and_probes_have_none(
    tmp_path: Path, artifact: Path, collector: Collector
) -> None:
    with serving(tmp_path, artifact, collector.env, broker=False) as service:
        service.call("GET", "/v2/health/live")
        service.call("GET", "/metrics")
        service.call("POST", INFER, QUESTION, traceparent=f"{TRACE[:-1]}0")
        service.call("POST", INFER, QUESTION)
        service.call("GET", "/nothing/" + "x" * 300)
        service.call("TRACE", "/v2")
        _stop(service)
    told = [(s.name, s.parent, s.attributes["http.response.status_code"]) for s in collector.spans]
    assert told == [
        ("POST /v2/models/{model}/infer", "", 200),
        ("GET", "", 404),
        ("HTTP /v2", "", 405),
    ]
    assert [span.trace == TRACE_ID for span in collector.spans] == [False] * 3
    assert len(collector.spans[1].attributes["url.path"]) == 200


def test_opentelemetrys_own_variables_set_the_name_and_the_sampler(
    tmp_path: Path, artifact: Path, collector: Collector
) -> None:
    env = {"OTEL_SERVICE_NAME": "iris", "OTEL_TRACES_SAMPLER": "parentbased_always_off"}
    with serving(tmp_path, artifact, {**collector.env, **env}, broker=False) as service:
        service.call("POST", INFER, QUESTION)
        service.call("POST", INFER, QUESTION, traceparent=TRACE)
        _stop(service)
    [span] = collector.spans
    assert (span.service, span.parent) == ("iris", PARENT)


def test_if_opentelemetry_is_disabled_a_trace_passes_unchanged(
    tmp_path: Path, artifact: Path, collector: Collector
) -> None:
    task_id = new_id()
    env = {**collector.env, "OTEL_SDK_DISABLED": "true"}
    with serving(tmp_path, artifact, env) as service:
        service.pipeline.worker()
        assert service.call("POST", INFER, QUESTION).status == 200
        _asked(service, {**TASK, "id": task_id}, traceparent=TRACE)
        headers = asyncio.run(record_headers(service, RESULTS, 1))
        _stop(service)
    assert headers == {task_id.encode(): (("traceparent", TRACE.encode()),)}
    assert collector.spans == []


def test_a_collector_that_is_away_blocks_nothing(tmp_path: Path, artifact: Path) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    env = {"PETAL_OTEL": "on", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    with serving(tmp_path, artifact, env) as service:
        service.pipeline.worker()
        for _ in range(3):
            _asked(service, TASK)
        _stop(service)


WITHOUT_SDK = """
import sys
sys.modules["opentelemetry.sdk.resources"] = None
from faust.cli.faust import cli
cli()
"""


def test_without_the_extra_the_error_names_what_to_install(pipeline: Pipeline) -> None:
    worker = ("-A", "streams.worker", "worker", "-l", "info")
    process = pipeline.start(sys.executable, "-c", WITHOUT_SDK, *worker, env={"PETAL_OTEL": "on"})
    wait_until(lambda: process.exit_code is not None, 30, "the worker ends")
    assert process.exit_code == 78
    assert "petalstream: PETAL_OTEL=on needs: pip install 'petalstream[otel]'" in process.output


def test_an_invalid_variable_of_opentelemetry_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
    with pytest.raises(ConfigError, match="a variable of OpenTelemetry cannot be used: "):
        Tracing("petal-api")


@pytest.mark.parametrize(
    ("given", "sampled"),
    [
        (TRACE, True),
        (TRACE[:-2] + "00", False),
        (TRACE[:-2] + "03", True),
        ("", False),
        ("x", False),
    ],
)
def test_a_trace_is_sampled_if_its_sender_samples_it(given: str, sampled: bool) -> None:
    assert is_sampled(given.encode()) == sampled


def test_random_bytes_are_not_a_trace() -> None:
    assert not is_sampled(b"\xff\x00" * 40)


@pytest.mark.parametrize("later", ["01" + TRACE[2:], "cc" + TRACE[2:] + "-what-is-new"])
def test_a_trace_of_a_later_version_is_read_as_version_00(later: str) -> None:
    assert parse_traceparent(later.encode()) == TRACE.encode()


@pytest.mark.parametrize(
    ("given", "is_one"),
    [
        (TRACE, True),
        (TRACE.upper(), False),
        (TRACE + "-x", False),
        (TRACE + "x", False),
        ("ff" + TRACE[2:], False),
        ("cc" + TRACE[2:] + "x", False),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", False),
        (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", False),
        ("", False),
    ],
)
def test_an_invalid_trace_is_ignored(given: str, is_one: bool) -> None:
    assert parse_traceparent(given.encode()) == (given.encode() if is_one else None)
    assert parse_traceparent(None) is None
