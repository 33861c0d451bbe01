"""One version of a model as the inference endpoint serves it."""

from concurrent.futures import Executor

from api.inference.fast_request import FastParser
from api.inference.response import ResponseEncoder
from api.metrics import ModelMetrics
from api.serving.batcher import Batcher, Limits
from model.artifact import Loaded
from model.predict import predictor
from model.values.ranges import Ranges


class Servable:
    """A model with the queue before it, and what reads its requests and writes its responses."""

    def __init__(
        self,
        loaded: Loaded,
        version: str,
        executor: Executor,
        limits: Limits,
        metrics: ModelMetrics,
    ) -> None:
        self.card = loaded.card
        self.version = version
        self.metrics = metrics
        self.fast_parser = FastParser(loaded.card)
        self.ranges = Ranges(loaded.card)
        self.encoder = ResponseEncoder(loaded.card, version)
        self.batcher = Batcher(
            predictor(loaded.model, loaded.card), executor, limits, metrics.predicted
        )
