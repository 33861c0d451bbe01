"""Adaptive batching: what waits while the model is busy is predicted together next.

There is no timer. An idle model answers what comes within one turn of the event loop at once;
while it works, others gather, and the busier it is, the larger its batches grow. Whoever asks
after a turn in which one came alone does not wait for the turn's end, if the model is fast.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np

from api.errors import Unavailable
from api.inference.datatypes import Array
from model.errors import PredictError
from model.predict import Prediction

INLINE_SECONDS = 0.002  # a hop to a thread and back costs about a tenth of it
STEEPEST = 8.0  # one slow call is more often the machine's fault than the model's

Predict = Callable[[Array], Prediction]
Answers = Sequence[Prediction | Exception]
# Of a batch: its rows, the seconds that its first caller waited, those that predicting took.
Observe = Callable[[int, float, float], None]


class Overloaded(Unavailable):
    """Too much waits for the model already; nothing was done."""


class Late(Unavailable):
    """The model did not answer in time."""


class Limits(NamedTuple):
    """Of one model: rows predicted at once, rows that may wait, seconds from coming to answer."""

    batch_rows: int
    queue_rows: int
    seconds: float


class Waiting:
    """Rows that one caller waits for."""

    __slots__ = ("X", "deadline", "future")

    def __init__(self, X: Array, deadline: float, future: asyncio.Future[Prediction]) -> None:
        self.X = X
        self.deadline = deadline
        self.future = future


class Batch(NamedTuple):
    """What is predicted together; its first caller `waited` so many seconds."""

    waiting: Sequence[Waiting]
    rows: int
    waited: float


NOTHING = Batch((), 0, 0.0)


class Batcher:
    """The queue before one model. For the event loop in which it is made."""

    def __init__(
        self, predict: Predict, executor: Executor, limits: Limits, observe: Observe
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._predict = predict
        self._observe = observe
        self._executor = executor
        self._limits = limits
        self._waiting: deque[Waiting] = deque()
        self._rows = 0  # of those waiting
        self._running = NOTHING
        self._scheduled = False
        self._came = 0  # since the last turn
        self._alone = False  # one came in the turn before, so more are not to be expected
        self._timer: asyncio.TimerHandle | None = None
        # Of the last call: from it the next one's cost is guessed.
        self._cost = 1, float("inf")

    def check_room(self, rows: int = 1) -> None:
        """Raise Overloaded if so many rows may not wait too; an empty queue takes any number."""
        if self._rows and self._rows + rows > self._limits.queue_rows:
            raise Overloaded(
                f"{self._rows} rows wait for the model, the limit is {self._limits.queue_rows}; "
                "try again later"
            )

    def submit(self, X: Array) -> asyncio.Future[Prediction]:
        """Predict the rows of `X`, shape (rows, features), together with what else waits.

        The future raises PredictError if the model fails for these rows, and Late. Raises
        Overloaded.
        """
        self.check_room(len(X))
        deadline = self._loop.time() + self._limits.seconds
        waiting = Waiting(X, deadline, self._loop.create_future())
        self._came += 1
        if not self._running.waiting and not self._scheduled:
            # At the end of this turn of the loop, because other requests may be read in it.
            self._scheduled = True
            self._loop.call_soon(self._turn)
            if self._alone and self._guess(len(X)) <= INLINE_SECONDS:
                self._settle(Batch((waiting,), len(X), 0.0), *timed(self._predict, (X,)))
                return waiting.future
        self._waiting.append(waiting)
        self._rows += len(X)
        return waiting.future

    def _turn(self) -> None:
        self._scheduled = False
        self._alone, self._came = self._came == 1, 0
        self._start()

    def _start(self) -> None:
        batch = self._next()
        if not batch.waiting:
            return
        parts = [waiting.X for waiting in batch.waiting]
        if self._guess(batch.rows) <= INLINE_SECONDS:
            self._settle(batch, *timed(self._predict, parts))
            return
        self._running = batch
        done = self._loop.run_in_executor(self._executor, timed, self._predict, parts)
        done.add_done_callback(self._finish)
        self._expire()

    def _next(self) -> Batch:
        """The next batch, without those whose time is over or who have gone."""
        batch: list[Waiting] = []
        rows, now = 0, self._loop.time()
        while self._waiting:
            first = self._waiting[0]
            if batch and rows + len(first.X) > self._limits.batch_rows:
                break
            self._waiting.popleft()
            self._rows -= len(first.X)
            if first.deadline <= now:
                self._refuse(first)
            if not first.future.done():
                batch.append(first)
                rows += len(first.X)
        waited = now - (batch[0].deadline - self._limits.seconds) if batch else 0.0
        return Batch(batch, rows, waited)

    def _guess(self, rows: int) -> float:
        last_rows, seconds = self._cost
        return seconds * max(1.0, rows / last_rows)

    def _finish(self, done: asyncio.Future[tuple[Answers, float]]) -> None:
        batch, self._running = self._running, NOTHING
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not done.cancelled():  # as it is when the loop ends
            self._settle(batch, *done.result())

    def _settle(self, batch: Batch, answers: Answers, seconds: float) -> None:
        """Give each its answer, keep what it cost, and go on with the next batch."""
        self._cost = batch.rows, min(seconds, STEEPEST * self._guess(batch.rows))
        self._observe(batch.rows, batch.waited, seconds)
        for waiting, answer in zip(batch.waiting, answers, strict=True):
            if waiting.future.done():
                continue
            if isinstance(answer, Exception):
                waiting.future.set_exception(answer)
            else:
                waiting.future.set_result(answer)
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _expire(self) -> None:
        """Answer those whose time is over while the model works, and look again for the next."""
        # All have the same time, so they are in the order of their deadlines.
        for waiting in (*self._running.waiting, *self._waiting):
            if waiting.deadline > self._loop.time():
                self._timer = self._loop.call_at(waiting.deadline, self._expire)
                return
            self._refuse(waiting)
        self._timer = self._loop.call_later(self._limits.seconds, self._expire)

    def _refuse(self, waiting: Waiting) -> None:
        if not waiting.future.done():
            late = Late(f"the model did not answer within {self._limits.seconds:g} s")
            waiting.future.set_exception(late)


def timed(predict: Predict, parts: Sequence[Array]) -> tuple[Answers, float]:
    """The answers to the parts, and the seconds that they took."""
    answers: Answers
    start = time.perf_counter()
    try:
        answers = predict_together(predict, parts)
    except Exception as e:  # a bug is each caller's answer; none may wait for ever
        answers = [e] * len(parts)
    return answers, time.perf_counter() - start


def predict_together(predict: Predict, parts: Sequence[Array]) -> list[Prediction | PredictError]:
    """Each part's answer, from one call for all rows; where that fails, from calls for halves.

    So a part that the model fails for gets its error, and the others their answers.
    """
    try:
        prediction = predict(parts[0] if len(parts) == 1 else np.concatenate(parts))
    except PredictError as e:
        if len(parts) == 1:
            return [e]
        half = len(parts) // 2
        return [
            *predict_together(predict, parts[:half]),
            *predict_together(predict, parts[half:]),
        ]
    return [prediction] if len(parts) == 1 else _split(prediction, parts)


def _split(prediction: Prediction, parts: Sequence[Array]) -> list[Prediction | PredictError]:
    y, proba = prediction
    split: list[Prediction | PredictError] = []
    start = 0
    for part in parts:
        end = start + len(part)
        split.append(Prediction(y[start:end], None if proba is None else proba[start:end]))
        start = end
    return split
