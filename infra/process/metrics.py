"""Counts and histograms of a process, and their families for Prometheus.

They are plain numbers and only the event loop's thread counts: those of prometheus-client would
take a lock. A scrape reads them on another thread, and may be a chunk behind.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)


class Histogram:
    """The count of each bucket, and the sum. `bounds`: the upper ones, in ascending order."""

    __slots__ = ("_counts", "bounds", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Add one value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add(self, counts: Iterable[int], total: float) -> None:
        """Add many values: the count in each bucket, the last of which has no bound; their sum."""
        self._counts = [old + int(new) for old, new in zip(self._counts, counts, strict=True)]
        self.sum += total

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self._counts)

    @property
    def counts(self) -> Sequence[int]:
        """How many values each bucket has, and as the last those above all bounds."""
        return self._counts

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds as Prometheus writes them, each with the count of values up to it."""
        bounds = (*(str(float(bound)) for bound in self.bounds), "+Inf")
        return list(zip(bounds, accumulate(self._counts), strict=True))


def counter(
    name: str, about: str, labels: Sequence[str], series: Iterable[tuple[Sequence[str], int]]
) -> Metric:
    """A counter whose name ends with `_total`."""
    family = CounterMetricFamily(name, about, labels=labels)
    for values, number in series:
        family.add_metric(values, number)
    return family


def gauge(
    name: str, about: str, labels: Sequence[str], series: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    """A value that goes up and down."""
    family = GaugeMetricFamily(name, about, labels=labels)
    for values, number in series:
        family.add_metric(values, number)
    return family


def histogram(
    name: str, about: str, labels: Sequence[str], series: Iterable[tuple[Sequence[str], Histogram]]
) -> Metric:
    """A distribution."""
    family = HistogramMetricFamily(name, about, labels=labels)
    for values, each in series:
        family.add_metric(values, each.buckets, each.sum)
    return family
