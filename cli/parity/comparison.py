"""Compares the outcomes of each stage with those of the first."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from cli.parity.stages import Outcome, Outcomes

TOLERANCE = 1e-12  # of a probability or score, and of a label relative to its size


class Difference(msgspec.Struct, frozen=True):
    """A row that two stages answer differently."""

    place: str
    expected: str
    got: str


class Comparison(msgspec.Struct, frozen=True):
    """The outcomes of a stage against those of the first one.

    `rows` were asked; `answers` and `errors` of them are the same. `distance` is the largest
    between two probabilities or scores, or between two numbers relative to their size.
    """

    stage: str
    rows: int
    answers: int
    errors: int
    distance: float
    differences: list[Difference]


def compare(
    stage: str, places: Sequence[str], expected: Outcomes, outcomes: Outcomes
) -> Comparison:
    """Compare row by row; a row that either stage was not asked does not count."""
    answers, errors, distances, differences = 0, 0, [0.0], []
    for place, one, other in zip(places, expected, outcomes, strict=True):
        if one is None or other is None:
            continue
        distance = _distance(one, other)
        if distance > TOLERANCE:
            differences.append(Difference(place, _shown(one), _shown(other)))
        elif one.code is None:
            answers += 1
        else:
            errors += 1
        if math.isfinite(distance):
            distances.append(distance)
    rows = answers + errors + len(differences)
    return Comparison(stage, rows, answers, errors, max(distances), differences)


def _distance(one: Outcome, other: Outcome) -> float:
    """How far two outcomes are apart; infinite for another label or code."""
    if one.code != other.code or len(one.numbers) != len(other.numbers):
        return math.inf
    pairs = zip(one.numbers, other.numbers, strict=True)
    return max([_label_distance(one.label, other.label), *(abs(p - q) for p, q in pairs)])


def _label_distance(one: Any, other: Any) -> float:
    if one == other and isinstance(one, bool) == isinstance(other, bool):
        return 0.0
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) / max(abs(one), abs(other))
    return math.inf


def _shown(outcome: Outcome) -> str:
    if outcome.code is not None:
        return f"error {outcome.code}"
    if not outcome.numbers:
        return repr(outcome.label)
    return f"{outcome.label!r} with {[float(f'{number:.15g}') for number in outcome.numbers]}"
