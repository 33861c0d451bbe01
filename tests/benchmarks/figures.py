"""From timestamps and CPU samples to the race's figures. Pure: no processes, no clock."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tests.benchmarks.contenders import OURS
from tests.benchmarks.costs import BadResults, rate, tally

FEWEST_COUNTED = 1000  # below this a CPU figure says nothing


class Sample(NamedTuple):
    """CPU seconds that a process had used at a time, in milliseconds since the epoch."""

    at_ms: float
    cpu: float


class Turn(NamedTuple):
    """One contender's turn: tasks/s, and CPU seconds per million tasks of its process."""

    rate: float
    cpu: float | None


def measure(stamps: Sequence[int], first: Sample, last: Sample) -> Turn:
    """The figures of one turn from its results' timestamps in milliseconds.

    The rate is counted from the first result to the last. CPU is counted from the sample
    `first`, taken when the first result was seen, to `last`, after all; it is divided by the
    results written after `first`, and so tells of work without the start-up before it. None
    where too few came after: they were done before the first was seen.
    """
    counted = sum(stamp > first.at_ms for stamp in stamps)
    if counted < FEWEST_COUNTED:
        return Turn(rate(stamps), None)
    return Turn(rate(stamps), (last.cpu - first.cpu) / counted * 1e6)


def find_fault(values: Sequence[bytes], tasks: int) -> str | None:
    """Why results are not the full answer to all tasks; None if they are.

    Each must keep the contract and carry labels, probabilities and its input's digest.
    """
    try:
        tally(((0, value) for value in values), tasks)
    except BadResults as e:
        return str(e)
    return None


def pairwise(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ratios of neighbouring turns; none where a peer had fewer turns."""
    if len(ours) != len(theirs):
        return []
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Ours over a peer's: the median of neighbouring turns' ratios.

    Where a peer had fewer turns: the ratio of the medians. Where it had none: None.
    """
    if not ours or not theirs:
        return None
    if ratios := pairwise(ours, theirs):
        return round(statistics.median(ratios), 3)
    return round(statistics.median(ours) / statistics.median(theirs), 3)


def _median(values: Sequence[float], digits: int | None) -> float | None:
    return round(statistics.median(values), digits) if values else None


def report(turns: Mapping[str, Sequence[Turn]], left_out: Mapping[str, str]) -> dict[str, Any]:
    """The figures of one race as they are printed. A peer without a turn has null."""
    rates = {name: [turn.rate for turn in done] for name, done in turns.items()}
    cpu = {name: [t.cpu for t in done if t.cpu is not None] for name, done in turns.items()}
    peers = [name for name in turns if name != OURS]
    ratios = {name: pairwise(rates[OURS], rates[name]) for name in peers}
    return {
        **{f"ratio_{name}": ratio(rates[OURS], rates[name]) for name in peers},
        "ratios": {name: [round(r, 3) for r in found] for name, found in ratios.items() if found},
        "tasks_per_second": {name: _median(found, None) for name, found in rates.items()},
        "cpu_seconds_per_million": {name: _median(found, 2) for name, found in cpu.items()},
        "left_out": dict(left_out),
    }
