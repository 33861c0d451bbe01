"""Counters of the service for Prometheus: cheap to count, and collected only on request.

The names are MLServer's where it has one (`rest_server_requests`, `model_infer_request_success`).
As Triton does, they divide the time of an inference into queue and compute. The counters are plain
numbers and only the event loop's thread counts: those of prometheus-client would take a lock.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from api.operation import Content, Operation
from infra.process import status
from infra.process.metrics import SECONDS, Histogram, counter, gauge, histogram
from infra.process.status import Status

MAX_BATCH_SIZES = 1024  # that have statistics of their own: any number of rows is a size
OTHER = "other"  # clients must not be able to create series
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"))
CONTENT_TYPE = "text/plain"
INFER_PATH = "/infer"


class Total:
    """A count and seconds."""

    __slots__ = ("count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0


class Parts:
    """The seconds of each part of all answered requests, from a whole body to a response."""

    __slots__ = ("computed", "decoded", "encoded", "last", "rows", "waited")

    def __init__(self) -> None:
        self.decoded = 0.0
        self.waited = 0.0  # for the prediction, which is a part of it
        self.computed = 0.0
        self.encoded = 0.0
        self.rows = 0
        self.last = 0.0  # when the last one was answered, by time.perf_counter


class ModelMetrics:
    """The counters of one version of a model."""

    __slots__ = (
        "batches", "compute", "failure", "failure_seconds", "parts", "queue", "rows", "success",
        "unlisted",
    )  # fmt: skip

    def __init__(self) -> None:
        self.success = 0  # requests answered
        self.failure = 0  # requests for this model that got an error
        self.failure_seconds = 0.0
        self.rows = 0
        self.queue = Histogram(SECONDS)
        self.compute = Histogram(SECONDS)
        self.parts = Parts()
        self.batches: dict[int, Total] = {}  # that answered at least one request, by their rows
        self.unlisted = Total()  # batches of further sizes

    def predicted(self, requests: int, rows: int, queue: float, compute: float) -> None:
        """Count one batch of rows: the seconds that it waited and those of its prediction.

        `requests` were answered by it.
        """
        self.rows += rows
        self.queue.observe(queue)
        self.compute.observe(compute)
        if requests:
            self.parts.computed += requests * compute
            total = self.batches.get(rows) or self._total(rows)
            total.count += 1
            total.seconds += compute

    def _total(self, rows: int) -> Total:
        if len(self.batches) == MAX_BATCH_SIZES:
            return self.unlisted
        return self.batches.setdefault(rows, Total())

    @property
    def executions(self) -> int:
        """The predictions that answered at least one request."""
        return sum(total.count for total in (*self.batches.values(), self.unlisted))

    def answered(
        self, rows: int, received: float, decoded: float, predicted: float, encoded: float
    ) -> None:
        """Count an answered request: its rows, and when each of its parts was ready."""
        self.success += 1
        parts = self.parts
        parts.rows += rows
        parts.decoded += decoded - received
        parts.waited += predicted - decoded
        parts.encoded += encoded - predicted
        parts.last = encoded

    def failed(self, seconds: float) -> None:
        """Count a request that got an error after so many seconds."""
        self.failure += 1
        self.failure_seconds += seconds


class Metrics:
    """The counters of one service, in their own registry.

    `statuses`: the folder of the status files of workers and sinks of this machine.
    """

    def __init__(self, statuses: Path) -> None:
        self._statuses = statuses
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(self)
        self.in_progress = 0  # requests
        self._lines: dict[tuple[str], int] = defaultdict(int)
        self._models: dict[tuple[str, str], ModelMetrics] = defaultdict(ModelMetrics)
        self._requests: dict[tuple[str, str, str], int] = defaultdict(int)
        self._seconds: dict[tuple[str, str], Histogram] = defaultdict(lambda: Histogram(SECONDS))

    def model(self, name: str, version: str) -> ModelMetrics:
        """The counters of one version of a model; a reload does not reset them."""
        return self._models[name, version]

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request with its response, under the path of its route."""
        method = scope["method"] if scope["method"] in METHODS else OTHER
        path = getattr(scope.get("route"), "path", OTHER)
        self._requests[method, path, str(status)] += 1
        self._seconds[method, path].observe(seconds)

    def inferences(self) -> tuple[int, list[int]]:
        """The inferences that were answered, and how many of them lie in each bucket of SECONDS.

        A bucket counts the requests for inference with an error too.
        """
        answered = sum(each.success for each in self._models.values())
        paths = [of for (_, path), of in self._seconds.items() if path.endswith(INFER_PATH)]
        return answered, [sum(counts) for counts in zip(*(p.counts for p in paths), strict=True)]

    def refused(self, status: int) -> None:
        """Count bytes that were refused before they were a request."""
        self._requests[OTHER, OTHER, str(status)] += 1

    def line_refused(self, status: int) -> None:
        """Count a line of JSON lines that is refused, by the status of a request with it alone."""
        self._lines[(str(status),)] += 1

    def collect(self) -> Iterator[Metric]:
        """All metrics; prometheus-client calls this."""
        name = "rest_server_requests"
        yield counter(name, "requests", ("method", "path", "status_code"), self._requests.items())
        yield histogram(
            "rest_server_request_duration_seconds", "from head to last byte", ("method", "path"),
            self._seconds.items(),
        )  # fmt: skip
        about = "JSON lines of requests that are refused"
        yield counter("rest_server_lines_refused", about, ("status_code",), self._lines.items())
        about = "requests being answered"
        yield GaugeMetricFamily("rest_server_requests_in_progress", about, self.in_progress)
        yield self._count("request_success", "requests answered", lambda m: m.success)
        yield self._count("request_failure", "requests refused", lambda m: m.failure)
        yield self._count("rows", "rows predicted", lambda m: m.rows)
        yield self._duration("queue", "wait", lambda m: m.queue)
        yield self._duration("compute", "predict", lambda m: m.compute)
        yield from pipeline_metrics(status.read_all(self._statuses))

    def _count(self, name: str, about: str, number: Callable[[ModelMetrics], int]) -> Metric:
        series = ((labels, number(each)) for labels, each in self._models.items())
        return counter(f"model_infer_{name}", about, ("model", "version"), series)

    def _duration(
        self, name: str, about: str, durations: Callable[[ModelMetrics], Histogram]
    ) -> Metric:
        series = ((labels, durations(each)) for labels, each in self._models.items())
        full_name = f"model_infer_{name}_duration_seconds"
        return histogram(full_name, about, ("model", "version"), series)

    def routes(self) -> list[Route]:
        """The route `/metrics`."""
        return [Route("/metrics", self.metrics)]

    @Operation("Operation", {200: Content({CONTENT_TYPE: str})})
    async def metrics(self, _: Request) -> Response:
        """Get counters and durations in the format of Prometheus."""
        text = await asyncio.to_thread(generate_latest, self._registry)
        return Response(text, media_type=f"{CONTENT_TYPE}; version=0.0.4; charset=utf-8")


def pipeline_metrics(statuses: Sequence[Status]) -> Iterator[Metric]:
    """How the workers and sinks of this machine are, by consumer group."""
    groups: dict[tuple[str], list[Status]] = defaultdict(list)
    for each in statuses:
        groups[(each.group,)].append(each)
    about = "processes of this machine that are ready"
    ready = [(group, sum(s.state == "ready" for s in of)) for group, of in groups.items()]
    yield gauge("petal_pipeline_ready_processes", about, ("group",), ready)
    about = "records that they have not handled"
    records = [(group, sum(s.lag for s in of)) for group, of in groups.items()]
    yield gauge("petal_pipeline_lag_records", about, ("group",), records)
    about = "age of the oldest record that they have not handled, 0 without one"
    ages = [
        (group, max(known))
        for group, of in groups.items()
        if (known := [s.seconds_behind for s in of if s.seconds_behind is not None])
    ]
    yield gauge("petal_pipeline_lag_seconds", about, ("group",), ages)
