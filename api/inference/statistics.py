"""The statistics of models, from the counters of `api/metrics.py`.

Source: Triton's statistics extension (extension_statistics.md).
"""

import time
from collections.abc import Iterable

from msgspec import Struct

from api.inference.servable import Servable
from api.metrics import ModelMetrics, Total


class DurationStatistics(Struct):
    """How often something was done, and for how long in all."""

    count: int
    ns: int


class InferenceStatistics(Struct):
    """The requests of a model and the parts of the answered ones, from body to response.

    `queue` is the wait for the model, `compute_infer` the prediction of a request together with
    others. There is no cache, so no request hits or misses one.
    """

    success: DurationStatistics
    fail: DurationStatistics
    queue: DurationStatistics
    compute_input: DurationStatistics
    compute_infer: DurationStatistics
    compute_output: DurationStatistics
    cache_hit: DurationStatistics
    cache_miss: DurationStatistics


class BatchStatistics(Struct):
    """The predictions of so many rows; input and output are measured for each request only."""

    batch_size: int
    compute_input: DurationStatistics
    compute_infer: DurationStatistics
    compute_output: DurationStatistics


class ModelStatistics(Struct):
    """The statistics of one version; `last_inference` in milliseconds since the epoch.

    `inference_count` counts rows, `execution_count` predictions.
    """

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferenceStatistics
    batch_stats: list[BatchStatistics]


class Statistics(Struct):
    """The statistics of one or more versions of models, since the start of the service."""

    model_stats: list[ModelStatistics]


NEVER = DurationStatistics(0, 0)


def statistics(servables: Iterable[Servable]) -> Statistics:
    """The statistics of versions that are loaded."""
    return Statistics([_of(one.card.name, one.version, one.metrics) for one in servables])


def _of(name: str, version: str, metrics: ModelMetrics) -> ModelStatistics:
    parts = metrics.parts
    count, seconds = metrics.success, parts.decoded + parts.waited + parts.encoded
    inference = InferenceStatistics(
        success=_duration(count, seconds),
        fail=_duration(metrics.failure, metrics.failure_seconds),
        queue=_duration(count, max(0.0, parts.waited - parts.computed)),
        compute_input=_duration(count, parts.decoded),
        compute_infer=_duration(count, parts.computed),
        compute_output=_duration(count, parts.encoded),
        cache_hit=NEVER,
        cache_miss=NEVER,
    )
    return ModelStatistics(
        name=name,
        version=version,
        last_inference=_epoch_ms(parts.last) if count else 0,
        inference_count=parts.rows,
        execution_count=metrics.executions,
        inference_stats=inference,
        batch_stats=[_batch(size, total) for size, total in sorted(metrics.batches.items())],
    )


def _batch(size: int, total: Total) -> BatchStatistics:
    return BatchStatistics(size, NEVER, _duration(total.count, total.seconds), NEVER)


def _duration(count: int, seconds: float) -> DurationStatistics:
    return DurationStatistics(count, round(seconds * 1e9))


def _epoch_ms(moment: float) -> int:
    """A moment of `time.perf_counter` as milliseconds since the epoch."""
    return round((time.time() - (time.perf_counter() - moment)) * 1000)
