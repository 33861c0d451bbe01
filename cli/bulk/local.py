"""The model in this process, for files of rows."""

import warnings
from typing import Any, Self

from cli.bulk.block import Fault, Probabilities, Scores
from infra.config import Settings
from model import artifact
from model.card import Card
from model.errors import PredictError
from model.predict import predict_together, predictor


class LocalScorer:
    """Predicts a block in one call; a row that the model fails for costs only itself."""

    depth = 1  # blocks at the same time

    def __init__(self, settings: Settings, card: Card) -> None:
        loaded = artifact.load(settings.model)
        self._predict = predictor(loaded.model, loaded.card)
        self._has_proba = card.proba

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def score(self, X: Any) -> Scores:
        y: list[Any] = []
        proba: list[Probabilities | None] = []
        faults: dict[int, Fault] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of arithmetic; the answer shows its outcome
            joints = predict_together(self._predict, X, [1] * len(X))
        for parts, outcome in joints:
            if isinstance(outcome, PredictError):
                faults[len(y)] = Fault(outcome.code, str(outcome))
                y.append(None)
                proba.append(None)
            else:
                y += outcome.y
                proba += outcome.proba or [None] * parts
        return Scores(y, proba if self._has_proba else None, faults)
