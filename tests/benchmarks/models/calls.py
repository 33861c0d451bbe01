"""Milliseconds of one call, ours and scikit-learn's in turn, with the CPU time beside it.

Both get their rows ready: ours the array in which rows travel, scikit-learn the array or DataFrame
that its model was fitted on. Both return lists of Python's own values, as a server encodes them.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

from model.predict import Predict, Prediction, predictor
from tests.benchmarks.figures import pairwise, ratio
from tests.benchmarks.models.estimators import Case

SIZES = (1, 10, 100, 1000)
TURN_SECONDS = 0.1

Call = Callable[[], Any]


class Turn(NamedTuple):
    """Milliseconds of wall clock and of CPU for one call, the mean of the calls in a turn."""

    wall: float
    cpu: float


class DifferentAnswers(Exception):
    """Our answer is not scikit-learn's to the last bit; `str()` names the model."""


def scikit_learn(model: Any, table: Any) -> Prediction:
    """The labels and probabilities as servers around scikit-learn compute them."""
    y = model.predict(table).tolist()
    proba = model.predict_proba(table).tolist() if hasattr(model, "predict_proba") else None
    return Prediction(y, proba)


def measure(case: Case, rounds: int, turn_seconds: float = TURN_SECONDS) -> dict[str, Any]:
    """The figures of a model for each number of rows, by that number as a text."""
    predict = predictor(case.model, case.card)
    return {str(rows): _compare(case, predict, rows, rounds, turn_seconds) for rows in SIZES}


def _compare(
    case: Case, predict: Predict, rows: int, rounds: int, turn_seconds: float
) -> dict[str, Any]:
    X, table = case.X[:rows], case.table[:rows]
    if predict(X) != scikit_learn(case.model, table):
        raise DifferentAnswers(f"{case.name}: other answers for {rows} rows than scikit-learn's")
    calls: list[Call] = [lambda: predict(X), lambda: scikit_learn(case.model, table)]
    counts = [_count(call, turn_seconds) for call in calls]
    turns: list[list[Turn]] = [[], []]
    for n in range(rounds):
        for which in (0, 1) if n % 2 == 0 else (1, 0):
            turns[which].append(_turn(calls[which], counts[which]))
    return report(*turns)


def _count(call: Call, seconds: float) -> int:
    """The number of calls that take about so many seconds. The first call is not counted."""
    call()
    return max(1, round(seconds * 1000 / max(_turn(call, 1).wall, 0.001)))


def _turn(call: Call, count: int) -> Turn:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        call()
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    return Turn(*(each / count * 1000 for each in seconds))


def report(ours: list[Turn], theirs: list[Turn]) -> dict[str, Any]:
    """Medians of the turns; `ratio` is theirs over ours, the median of neighbouring turns."""
    ratios = pairwise([turn.wall for turn in theirs], [turn.wall for turn in ours])
    figures: dict[str, Any] = {}
    for name, turns in {"ours": ours, "scikit_learn": theirs}.items():
        walls = [turn.wall for turn in turns]
        figures[f"{name}_ms"] = _rounded(median(walls))
        figures[f"{name}_ms_range"] = [_rounded(min(walls)), _rounded(max(walls))]
        figures[f"{name}_cpu_ms"] = _rounded(median(turn.cpu for turn in turns))
    spread = [round(min(ratios), 2), round(max(ratios), 2)]
    cpu = ratio([turn.cpu for turn in theirs], [turn.cpu for turn in ours])
    return {
        "ratio": round(median(ratios), 2), "ratio_range": spread, "cpu_ratio": cpu, **figures,
    }  # fmt: skip


def _rounded(milliseconds: float) -> float:
    return float(f"{milliseconds:.3g}")
