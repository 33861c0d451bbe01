"""Counters of the service for Prometheus, cheap to count and read only when asked for.

Names are MLServer's where it has one (`rest_server_requests`, `model_infer_request_success`),
and Triton's split of an inference's time into queue and compute.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from api.operation import Content, Operation

OTHER = "other"  # a client's words must not make series
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"))
CONTENT_TYPE = "text/plain"
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)


class ModelMetrics:
    """What one version of a model did; each counter is ready to be counted up."""

    def __init__(self, metrics: "Metrics", model: str, version: str) -> None:
        self._success = metrics.success.labels(model, version)
        self._failure = metrics.failure.labels(model, version)
        self._rows = metrics.rows.labels(model, version)
        self._queue = metrics.queue.labels(model, version)
        self._compute = metrics.compute.labels(model, version)

    def succeeded(self) -> None:
        """A request was answered."""
        self._success.inc()

    def failed(self) -> None:
        """A request was for this model, and got no answer."""
        self._failure.inc()

    def predicted(self, rows: int, queue: float, compute: float) -> None:
        """Rows were predicted at once: seconds that they waited, and seconds that it took."""
        self._rows.inc(rows)
        self._queue.observe(queue)
        self._compute.observe(compute)


class Metrics:
    """The counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        model = ["model", "version"]
        self.success = self._counter("model_infer_request_success", "requests answered", model)
        self.failure = self._counter("model_infer_request_failure", "requests refused", model)
        self.rows = self._counter("model_infer_rows", "rows predicted", model)
        self.queue = self._histogram("model_infer_queue_duration_seconds", "wait", model)
        self.compute = self._histogram("model_infer_compute_duration_seconds", "predict", model)
        self._requests = self._counter(
            "rest_server_requests", "requests", ["method", "path", "status_code"]
        )
        self._seconds = self._histogram(
            "rest_server_request_duration_seconds", "from head to last byte", ["method", "path"]
        )
        self.in_progress = 0  # requests; a plain number, read when it is asked for
        Gauge(
            "rest_server_requests_in_progress", "requests being answered", registry=self._registry
        ).set_function(lambda: self.in_progress)
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def _counter(self, name: str, about: str, labels: list[str]) -> Counter:
        return Counter(name, about, labels, registry=self._registry)

    def _histogram(self, name: str, about: str, labels: list[str]) -> Histogram:
        return Histogram(name, about, labels, buckets=SECONDS, registry=self._registry)

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """A request was answered; its path is told as its route's."""
        key = scope["method"], getattr(scope.get("route"), "path", OTHER), status
        found = self._known.get(key)
        if found is None:
            found = self._series(*key)
            if key[0] in METHODS:
                self._known[key] = found
        found[0].inc()
        found[1].observe(seconds)

    def _series(self, method: str, path: str, status: int) -> tuple[Counter, Histogram]:
        labels = method if method in METHODS else OTHER, path
        return self._requests.labels(*labels, str(status)), self._seconds.labels(*labels)

    def routes(self) -> list[Route]:
        """What this answers, and where."""
        return [Route("/metrics", self.metrics)]

    @Operation("Operation", {200: Content({CONTENT_TYPE: str})})
    async def metrics(self, _: Request) -> Response:
        """Counters and durations, for Prometheus."""
        text = generate_latest(self._registry)
        return Response(text, media_type=f"{CONTENT_TYPE}; version=0.0.4; charset=utf-8")
