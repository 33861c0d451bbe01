"""The model in this process, for files of rows."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from cli.bulk.block import Fault, Numbers, Scores, numbers_of
from model import artifact
from model.errors import PredictError
from model.predict import Joint, predict_together, predictor


class LocalScorer:
    """Predicts a block in one call; a row that the model fails for costs only itself."""

    depth = 1  # blocks at the same time

    def __init__(self, path: Path) -> None:
        loaded = artifact.load(path)
        self._predict = predictor(loaded.model, loaded.card)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def score(self, X: Any) -> Scores:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of arithmetic; the answer shows its outcome
            return joined(predict_together(self._predict, X, [1] * len(X)))


def joined(joints: Iterable[Joint]) -> Scores:
    """The outcomes of joint predictions of single rows, in their order."""
    y: list[Any] = []
    numbers: list[Numbers | None] = []
    faults: dict[int, Fault] = {}
    for parts, outcome in joints:
        if isinstance(outcome, PredictError):
            faults[len(y)] = Fault(outcome.code, str(outcome))
            y.append(None)
            numbers.append(None)
        else:
            y += outcome.y
            numbers += numbers_of(outcome) or [None] * parts
    return Scores(y, numbers if any(numbers) else None, faults)
