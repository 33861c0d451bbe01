"""The figures of the benchmarks, from samples of processes and the timestamps of results.

Pure: no processes, no clock.
"""

import statistics
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from streams.codec import decode_result
from streams.events import Result, Task
from tests.benchmarks.workers import OURS

MIN_COUNTED = 1000  # with fewer results a CPU figure means nothing
SETTLE_MS = 20.0  # a worker needs it after the last result to confirm and commit the delivery
BYTES_PER_MB = 1_000_000


class Sample(NamedTuple):
    """CPU seconds and resident bytes of a process, at a time in milliseconds since the epoch."""

    at_ms: float
    cpu: float
    rss: int


class Run(NamedTuple):
    """One worker's run: tasks/s, and CPU seconds per million tasks of its process."""

    rate: float
    cpu: float | None


class BadResults(Exception):
    """The results do not answer all tasks in full; `str()` gives the reason."""


class Tally(NamedTuple):
    """The results of one backlog, counted. `workers` has the number of tasks of each worker."""

    stamps: "array[int]"
    workers: Counter[str]
    rows: int
    repeated: int
    longest_infer_ms: float


def read_result(value: bytes) -> Result:
    """Decode a result; raises BadResults if it breaks the contract, or lacks labels,
    probabilities or its input's digest."""
    try:
        result = decode_result(value)
    except msgspec.DecodeError as e:
        raise BadResults(f"a result breaks the contract: {e}") from e
    if not (result.y and result.proba and result.input):
        raise BadResults(f"a result lacks labels, probabilities or its input's digest: {value!r}")
    return result


def tally(records: Iterable[tuple[int, bytes]], tasks: int) -> Tally:
    """Count (timestamp, value) records one by one, so that a million need not fit in memory.

    Raises BadResults if a result is not complete (see `read_result`) or a task has no result.
    """
    stamps, ids, workers, rows, longest = array("q"), set[str](), Counter[str](), 0, 0.0
    for stamp, value in records:
        result = read_result(value)
        stamps.append(stamp)
        ids.add(result.id)
        workers[result.worker] += 1
        rows += len(result.y or ())
        longest = max(longest, result.ms.infer)
    if len(ids) != tasks:
        raise BadResults(f"{len(ids):,} of {tasks:,} tasks have a result")
    return Tally(stamps, workers, rows, len(stamps) - len(ids), longest)


def find_fault(values: Sequence[bytes], tasks: int) -> str | None:
    """The reason why results do not answer all tasks in full; None if they do."""
    try:
        tally(((0, value) for value in values), tasks)
    except BadResults as e:
        return str(e)
    return None


def find_uncopied(values: Sequence[bytes], tasks: int) -> str | None:
    """The reason why values are not copies of all tasks; None if they are."""
    try:
        copied = {msgspec.json.decode(value, type=Task).id for value in values}
    except msgspec.DecodeError as e:
        return f"a copy is no task: {e}"
    return None if len(copied) == tasks else f"{len(copied):,} of {tasks:,} tasks are copied"


def rate(stamps: Sequence[int]) -> float:
    """Results per second between the first and the last; timestamps in milliseconds."""
    start, end = min(stamps), max(stamps)
    return sum(stamp > start for stamp in stamps) / max(end - start, 1) * 1000


def measure(stamps: Sequence[int], first: Sample, last: Sample) -> Run:
    """The figures of one run from its results' timestamps in milliseconds.

    `first` is the sample taken when the first result was seen, `last` the one after all
    results. The CPU time between them is divided by the number of results written after
    `first`, so the start-up is not in it. It is None if too few results came after `first`.
    """
    counted = sum(stamp > first.at_ms for stamp in stamps)
    if counted < MIN_COUNTED:
        return Run(rate(stamps), None)
    return Run(rate(stamps), (last.cpu - first.cpu) / counted * 1e6)


def cpu_used(samples: Sequence[Sample], last_ms: float) -> float:
    """CPU seconds from the first sample to the first one after the last delivery is committed.

    Later samples would add the CPU time of an idle process. There must be a sample at least
    `SETTLE_MS` after `last_ms`.
    """
    settled = [sample.cpu for sample in samples if sample.at_ms >= last_ms + SETTLE_MS]
    return settled[0] - samples[0].cpu


def highest_mb(samples: Iterable[Sample]) -> float:
    """The highest resident memory, in megabytes."""
    return round(max(sample.rss for sample in samples) / BYTES_PER_MB, 1)


def evenness(costs: Mapping[int, float]) -> dict[int, float]:
    """Each size's cost over the mean of all: 1 everywhere if the cost per task is constant."""
    mean = statistics.fmean(costs.values())
    return {size: round(cost / mean, 3) for size, cost in costs.items()}


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that `percent` percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """The least-squares slope of (x, y) points; None for fewer than three different x."""
    if len({x for x, _ in points}) < 3:
        return None
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


def pairwise(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """The ratios of neighbouring runs; empty if a peer had fewer runs."""
    if len(ours) != len(theirs):
        return []
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Ours over a peer's: the median of the ratios of neighbouring runs.

    If a peer had fewer runs: the ratio of the medians. If it had none: None.
    """
    if not ours or not theirs:
        return None
    if ratios := pairwise(ours, theirs):
        return round(statistics.median(ratios), 3)
    return round(statistics.median(ours) / statistics.median(theirs), 3)


def _median(values: Sequence[float], digits: int | None) -> float | None:
    return round(statistics.median(values), digits) if values else None


def report(runs: Mapping[str, Sequence[Run]], left_out: Mapping[str, str]) -> dict[str, Any]:
    """The throughput figures as they are printed. A peer without a run has null."""
    rates = {name: [run.rate for run in done] for name, done in runs.items()}
    cpu = {name: [r.cpu for r in done if r.cpu is not None] for name, done in runs.items()}
    peers = [name for name in runs if name != OURS]
    ratios = {name: pairwise(rates[OURS], rates[name]) for name in peers}
    return {
        **{f"ratio_{name}": ratio(rates[OURS], rates[name]) for name in peers},
        "ratios": {name: [round(r, 3) for r in found] for name, found in ratios.items() if found},
        "tasks_per_second": {name: _median(found, None) for name, found in rates.items()},
        "cpu_seconds_per_million": {name: _median(found, 2) for name, found in cpu.items()},
        "left_out": dict(left_out),
    }
