"""Counters of the service for Prometheus: cheap to count, and collected only on request.

The names are MLServer's where it has one (`rest_server_requests`, `model_infer_request_success`).
As Triton does, they divide the time of an inference into queue and compute. The counters are plain
numbers and only the event loop's thread counts: those of prometheus-client would take a lock.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from api.operation import Content, Operation

MAX_BATCH_SIZES = 1024  # that have statistics of their own: any number of rows is a size
OTHER = "other"  # clients must not be able to create series
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"))
CONTENT_TYPE = "text/plain"
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
BOUNDS = (*(str(float(bound)) for bound in SECONDS), "+Inf")


class Durations:
    """A histogram of seconds: the count of each bucket, and the sum."""

    __slots__ = ("_counts", "sum")

    def __init__(self) -> None:
        self._counts = [0] * len(BOUNDS)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Add one duration."""
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self.sum += seconds

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds as Prometheus writes them, each with the count of durations up to it."""
        return list(zip(BOUNDS, accumulate(self._counts), strict=True))


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
        self.queue = Durations()
        self.compute = Durations()
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
    """The counters of one service, in their own registry."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(self)
        self.in_progress = 0  # requests
        self._lines: dict[tuple[str], int] = defaultdict(int)
        self._models: dict[tuple[str, str], ModelMetrics] = defaultdict(ModelMetrics)
        self._requests: dict[tuple[str, str, str], int] = defaultdict(int)
        self._seconds: dict[tuple[str, str], Durations] = defaultdict(Durations)

    def model(self, name: str, version: str) -> ModelMetrics:
        """The counters of one version of a model; a reload does not reset them."""
        return self._models[name, version]

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request with its response, under the path of its route."""
        method = scope["method"] if scope["method"] in METHODS else OTHER
        path = getattr(scope.get("route"), "path", OTHER)
        self._requests[method, path, str(status)] += 1
        self._seconds[method, path].observe(seconds)

    def refused(self, status: int) -> None:
        """Count bytes that were refused before they were a request."""
        self._requests[OTHER, OTHER, str(status)] += 1

    def line_refused(self, status: int) -> None:
        """Count a line of JSON lines that is refused, by the status of a request with it alone."""
        self._lines[(str(status),)] += 1

    def collect(self) -> Iterator[Metric]:
        """All metrics; prometheus-client calls this."""
        name = "rest_server_requests"
        yield _counter(name, "requests", ("method", "path", "status_code"), self._requests.items())
        yield _histogram(
            "rest_server_request_duration_seconds", "from head to last byte", ("method", "path"),
            self._seconds.items(),
        )  # fmt: skip
        about = "JSON lines of requests that are refused"
        yield _counter("rest_server_lines_refused", about, ("status_code",), self._lines.items())
        about = "requests being answered"
        yield GaugeMetricFamily("rest_server_requests_in_progress", about, self.in_progress)
        yield self._count("request_success", "requests answered", lambda m: m.success)
        yield self._count("request_failure", "requests refused", lambda m: m.failure)
        yield self._count("rows", "rows predicted", lambda m: m.rows)
        yield self._duration("queue", "wait", lambda m: m.queue)
        yield self._duration("compute", "predict", lambda m: m.compute)

    def _count(self, name: str, about: str, number: Callable[[ModelMetrics], int]) -> Metric:
        series = ((labels, number(each)) for labels, each in self._models.items())
        return _counter(f"model_infer_{name}", about, ("model", "version"), series)

    def _duration(
        self, name: str, about: str, durations: Callable[[ModelMetrics], Durations]
    ) -> Metric:
        series = ((labels, durations(each)) for labels, each in self._models.items())
        full_name = f"model_infer_{name}_duration_seconds"
        return _histogram(full_name, about, ("model", "version"), series)

    def routes(self) -> list[Route]:
        """The route `/metrics`."""
        return [Route("/metrics", self.metrics)]

    @Operation("Operation", {200: Content({CONTENT_TYPE: str})})
    async def metrics(self, _: Request) -> Response:
        """Get counters and durations in the format of Prometheus."""
        text = generate_latest(self._registry)
        return Response(text, media_type=f"{CONTENT_TYPE}; version=0.0.4; charset=utf-8")


def _counter(
    name: str, about: str, labels: Sequence[str], series: Iterable[tuple[Sequence[str], int]]
) -> Metric:
    family = CounterMetricFamily(name, about, labels=labels)
    for values, number in series:
        family.add_metric(values, number)
    return family


def _histogram(
    name: str, about: str, labels: Sequence[str], series: Iterable[tuple[Sequence[str], Durations]]
) -> Metric:
    family = HistogramMetricFamily(name, about, labels=labels)
    for values, durations in series:
        family.add_metric(values, durations.buckets, durations.sum)
    return family
