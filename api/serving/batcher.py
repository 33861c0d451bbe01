"""Adaptive batching: requests that wait while the model is busy are predicted together next.

There is no timer. An idle model answers at once the requests that come within one turn of the
event loop. While the model works, further requests gather: the busier it is, the larger its
batches grow. If the previous turn of the loop had a single request and the model is fast, the next
request is predicted at once, before the turn ends.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from itertools import repeat
from typing import NamedTuple

import numpy as np

from api.errors import DeadlineExceeded, Overloaded
from model.errors import PredictError
from model.predict import Array, CostEstimate, Joint, Predict, Prediction, predict_together, split

INLINE_SECONDS = 0.002  # a hop to a thread and back costs about a tenth of it

Outcomes = Sequence[Prediction | Exception]  # one for each request of a batch
# Of a batch: the requests that it answered, its rows, the seconds that its first request waited,
# the seconds of its prediction.
Observe = Callable[[int, int, float, float], None]


class Limits(NamedTuple):
    """Of one model: rows predicted at once, rows that may wait, seconds from request to answer."""

    batch_rows: int
    queue_rows: int
    seconds: float


class QueuedRequest:
    """The rows of one request, and the future of its prediction."""

    __slots__ = ("X", "deadline", "future")

    def __init__(self, X: Array, deadline: float, future: asyncio.Future[Prediction]) -> None:
        self.X = X
        self.deadline = deadline
        self.future = future


class RequestBatch(NamedTuple):
    """Requests that are predicted together; the first of them `waited` so many seconds."""

    requests: Sequence[QueuedRequest]
    rows: int
    waited: float


NOTHING = RequestBatch((), 0, 0.0)


class Batcher:
    """The queue before one model. For the event loop that creates it."""

    def __init__(
        self, predict: Predict, executor: Executor, limits: Limits, observe: Observe
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._predict = predict
        self._observe = observe
        self._executor = executor
        self._limits = limits
        self._queue: deque[QueuedRequest] = deque()
        self._queued_rows = 0
        self._running = NOTHING
        self._scheduled = False
        self._arrivals = 0  # since the last turn
        self._single = False  # the previous turn had one request, so more are not expected
        self._timer: asyncio.TimerHandle | None = None
        self._cost = CostEstimate()

    def check_room(self, rows: int = 1) -> None:
        """Raise Overloaded if so many more rows may not wait; an empty queue takes any number."""
        if self._queued_rows and self._queued_rows + rows > self._limits.queue_rows:
            raise Overloaded(self._queued_rows, self._limits.queue_rows)

    def submit(self, X: Array) -> asyncio.Future[Prediction]:
        """Predict the rows of `X`, shape (rows, features), together with other queued rows.

        The future raises PredictError if the model fails for these rows, or DeadlineExceeded.
        Raises Overloaded.
        """
        self.check_room(len(X))
        deadline = self._loop.time() + self._limits.seconds
        request = QueuedRequest(X, deadline, self._loop.create_future())
        self._arrivals += 1
        if not self._running.requests and not self._scheduled:
            # At the end of this turn of the loop, because other requests may be read in it.
            self._scheduled = True
            self._loop.call_soon(self._turn)
            # Waiting for the end of the turn costs a single request 7 % more CPU time in the
            # application (250 alternating pairs of 64 requests, called without HTTP), 4 % of all.
            # With HTTP: one connection of `python -m tests.benchmarks.rest --peers ceiling`.
            if self._single and self._is_quick(len(X)):
                self._settle(RequestBatch((request,), len(X), 0.0), *timed(self._predict, (X,)))
                return request.future
        self._queue.append(request)
        self._queued_rows += len(X)
        return request.future

    def _turn(self) -> None:
        self._scheduled = False
        self._single, self._arrivals = self._arrivals == 1, 0
        batch = self._next()
        if not batch.requests:
            return
        parts = [request.X for request in batch.requests]
        if self._is_quick(batch.rows):
            self._settle(batch, *timed(self._predict, parts))
            return
        self._running = batch
        done = self._loop.run_in_executor(self._executor, timed, self._predict, parts)
        done.add_done_callback(self._finish)
        self._expire()

    def _is_quick(self, rows: int) -> bool:
        return self._cost.guess(rows) <= INLINE_SECONDS

    def _next(self) -> RequestBatch:
        """The next batch, without requests that are late or cancelled."""
        batch: list[QueuedRequest] = []
        rows, now = 0, self._loop.time()
        while self._queue:
            first = self._queue[0]
            if batch and rows + len(first.X) > self._limits.batch_rows:
                break
            self._queue.popleft()
            self._queued_rows -= len(first.X)
            if first.deadline <= now:
                self._refuse(first)
            if not first.future.done():
                batch.append(first)
                rows += len(first.X)
        waited = now - (batch[0].deadline - self._limits.seconds) if batch else 0.0
        return RequestBatch(batch, rows, waited)

    def _finish(self, done: asyncio.Future[tuple[Outcomes, float]]) -> None:
        batch, self._running = self._running, NOTHING
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not done.cancelled():  # as it is when the loop ends
            self._settle(batch, *done.result())

    def _settle(self, batch: RequestBatch, outcomes: Outcomes, seconds: float) -> None:
        """Answer each request, record the cost, and schedule the next batch."""
        self._cost.observe(batch.rows, seconds)
        answered = 0
        for request, outcome in zip(batch.requests, outcomes, strict=True):
            if request.future.done():
                continue
            if isinstance(outcome, Exception):
                request.future.set_exception(outcome)
            else:
                request.future.set_result(outcome)
                answered += 1
        self._observe(answered, batch.rows, batch.waited, seconds)
        if self._queue and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _expire(self) -> None:
        """Refuse requests whose time is over while the model works; set a timer for the next."""
        # All have the same time limit, so they are in the order of their deadlines.
        for request in (*self._running.requests, *self._queue):
            if request.deadline > self._loop.time():
                self._timer = self._loop.call_at(request.deadline, self._expire)
                return
            self._refuse(request)
        self._timer = self._loop.call_later(self._limits.seconds, self._expire)

    def _refuse(self, request: QueuedRequest) -> None:
        if not request.future.done():
            request.future.set_exception(DeadlineExceeded(self._limits.seconds))


def timed(predict: Predict, parts: Sequence[Array]) -> tuple[Outcomes, float]:
    """The outcome of each part, and the seconds that predicting took."""
    outcomes: Outcomes
    start = time.perf_counter()
    try:
        outcomes = _outcomes(predict, parts)
    except Exception as e:  # a bug is the outcome of each request; none may wait forever
        outcomes = [e] * len(parts)
    return outcomes, time.perf_counter() - start


def _outcomes(predict: Predict, parts: Sequence[Array]) -> Outcomes:
    counts = list(map(len, parts))
    outcomes: list[Prediction | PredictError] = []
    X = parts[0] if len(parts) == 1 else np.concatenate(parts)
    for joint in predict_together(predict, X, counts):
        start = len(outcomes)
        outcomes += _divided(joint, counts[start : start + joint.parts])
    return outcomes


def _divided(joint: Joint, counts: Sequence[int]) -> Sequence[Prediction | PredictError]:
    outcome = joint.outcome
    if joint.parts == 1 or isinstance(outcome, PredictError):
        return (outcome,)
    columns = [None if values is None else split(values, counts) for values in outcome]
    given = [repeat(None) if column is None else column for column in columns]
    return list(map(Prediction, *given))
