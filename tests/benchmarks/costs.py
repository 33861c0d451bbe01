"""From looks at a process and the stamps of results to cost and lag. Pure."""

import statistics
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from streams.codec import decode_result
from streams.events import Result

SETTLE_MS = 20.0  # after the last result its delivery is awaited and acknowledged
MB = 1_000_000


class Look(NamedTuple):
    """A process at a time in milliseconds since the epoch: CPU seconds, resident bytes."""

    at_ms: float
    cpu: float
    rss: int


class BadResults(Exception):
    """Results are not the full answer to all tasks; `str()` says why."""


class Tally(NamedTuple):
    """What the results of one backlog say: timestamps and the workers' shares of tasks."""

    stamps: "array[int]"
    workers: Counter[str]
    rows: int
    repeated: int
    longest_infer_ms: float


def read(value: bytes) -> Result:
    """A result that keeps the contract and carries labels, probabilities and its input's
    digest; raises BadResults for another."""
    try:
        result = decode_result(value)
    except msgspec.DecodeError as e:
        raise BadResults(f"a result breaks the contract: {e}") from e
    if not (result.y and result.proba and result.input):
        raise BadResults(f"a result lacks labels, probabilities or its input's digest: {value!r}")
    return result


def tally(records: Iterable[tuple[int, bytes]], tasks: int) -> Tally:
    """Count (timestamp, value) records one by one: a million do not lie in memory at once.

    Raises BadResults unless each is a full one (see `read`) and all tasks are answered.
    """
    stamps, ids, workers, rows, longest = array("q"), set[str](), Counter[str](), 0, 0.0
    for stamp, value in records:
        result = read(value)
        stamps.append(stamp)
        ids.add(result.id)
        workers[result.worker] += 1
        rows += len(result.y or ())
        longest = max(longest, result.ms.infer)
    if len(ids) != tasks:
        raise BadResults(f"{len(ids):,} of {tasks:,} tasks are answered")
    return Tally(stamps, workers, rows, len(stamps) - len(ids), longest)


def rate(stamps: Sequence[int]) -> float:
    """Results per second between the first and the last; timestamps in milliseconds."""
    start, end = min(stamps), max(stamps)
    return sum(stamp > start for stamp in stamps) / max(end - start, 1) * 1000


def cpu_used(looks: Sequence[Look], last_ms: float) -> float:
    """CPU seconds from the first look to the first after the last result was acknowledged.

    The looks after that show what an idle process takes, which is no cost of the tasks; there
    must be at least one.
    """
    settled = [look.cpu for look in looks if look.at_ms >= last_ms + SETTLE_MS]
    return settled[0] - looks[0].cpu


def highest_mb(looks: Iterable[Look]) -> float:
    """The most resident memory seen, in megabytes."""
    return round(max(look.rss for look in looks) / MB, 1)


def evenness(costs: Mapping[int, float]) -> dict[int, float]:
    """Each size's cost over the mean of all: 1 everywhere if the cost per task is constant."""
    mean = statistics.fmean(costs.values())
    return {size: round(cost / mean, 3) for size, cost in costs.items()}


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Of (x, y) points the least-squares change of y per x; None for fewer than three."""
    if len({x for x, _ in points}) < 3:
        return None
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope
