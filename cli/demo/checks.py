"""The rows of the demo, and what the model in this process answers to them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cli.demo.errors import CheckFailed
from model.artifact import Loaded
from model.errors import PredictError
from model.examples import Row, example_row, varied_rows
from model.predict import Prediction, matrix, predict_together, predictor

TOLERANCE = 1e-12  # several rows at once may differ from one in the last bits


class Question(NamedTuple):
    """A row and the model's answer to it in this process.

    `proba` is None without probabilities, `score` for other models than outlier detectors.
    """

    row: Row
    label: Any
    proba: list[float] | None = None
    score: float | None = None

    def is_answered_by(self, answer: Mapping[str, Any]) -> bool:
        """Whether an answer to this row alone, with the fields of a result, is the model's."""
        return (
            _is_same(answer.get("y"), [self.label])
            and _is_same(answer.get("proba"), self.proba and [self.proba])
            and _is_same(answer.get("score"), None if self.score is None else [self.score])
        )


def questions(loaded: Loaded, count: int) -> list[Question]:
    """Questions with rows from the card, first the one from the middle of all ranges.

    Raises CheckFailed if the model answers none of them. Rows that it does not answer are left
    out, and the others repeat.
    """
    card = loaded.card
    rows = [example_row(card), *varied_rows(card, count - 1)]
    predict = predictor(loaded.model, card)
    joints = predict_together(predict, matrix(rows, card.numeric), [1] * len(rows))
    found: list[Question] = []
    start = 0
    for parts, outcome in joints:
        if isinstance(outcome, Prediction):
            found += _questions(rows[start : start + parts], outcome)
        start += parts
    if not found:
        [reason, *_] = [each.outcome for each in joints if isinstance(each.outcome, PredictError)]
        raise CheckFailed(
            f"the model answers no row that is made from its card, such as {rows[0]} ({reason}); "
            "save it with a card that names the ranges and texts that it takes"
        )
    return (found * math.ceil(count / len(found)))[:count]


def _questions(rows: list[Row], answers: Prediction) -> list[Question]:
    probas: Sequence[list[float] | None] = answers.proba or [None] * len(rows)
    scores: Sequence[float | None] = answers.score or [None] * len(rows)
    return [Question(*each) for each in zip(rows, answers.y, probas, scores, strict=True)]


def _is_same(given: Any, expected: Any) -> bool:
    """Whether two values, or lists of values, have the same types and are equal or close."""
    if type(given) is not type(expected):
        return False
    if isinstance(expected, list):
        return len(given) == len(expected) and all(map(_is_same, given, expected))
    if isinstance(expected, float):
        return math.isclose(given, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(given == expected)
