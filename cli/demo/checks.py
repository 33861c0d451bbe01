"""The rows of the demo, and what the model in this process answers to them."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from cli.demo.errors import CheckFailed
from model.artifact import Loaded
from model.errors import PredictError
from model.examples import Row, example_row, varied_rows
from model.predict import Prediction, matrix, predict_together, predictor

TOLERANCE = 1e-12  # several rows at once may differ from one in the last bits


class Question(NamedTuple):
    """A row and the model's answer to it in this process; `proba`: None for a regressor."""

    row: Row
    label: Any
    proba: list[float] | None

    def is_answered_by(self, y: list[Any], proba: list[list[float]] | None) -> bool:
        """Whether an answer to this row alone is the model's."""
        if len(y) != 1 or not _is_same(y[0], self.label):
            return False
        if self.proba is None or proba is None:
            return self.proba is None and proba is None
        [given] = proba
        return len(given) == len(self.proba) and all(map(_is_close, given, self.proba))


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
    return [Question(*each) for each in zip(rows, answers.y, probas, strict=True)]


def _is_same(label: Any, expected: Any) -> bool:
    if isinstance(label, float) and isinstance(expected, float):
        return _is_close(label, expected)
    return type(label) is type(expected) and label == expected


def _is_close(value: float, expected: float) -> bool:
    return math.isclose(value, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
