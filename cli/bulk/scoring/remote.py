"""Rows for a service or the queue: several in a task, and a bounded number in flight."""

import asyncio
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, Self

import msgspec

from cli.backends import Predicted, RequestRefused, ServiceBusy, ServiceUnavailable
from cli.bulk.block import Fault, Numbers, Scores, numbers_of
from cli.bulk.errors import OtherModel
from cli.bulk.scoring.window import Window
from model.card import Card, Value
from model.predict import Prediction

Rows = Sequence[Sequence[Value]]
RETRY_SECONDS = 0.5
FINAL = ("HTTP 401", "HTTP 403", "HTTP 404", "unknown_model")  # other rows would get the same
TASK_BYTES = 500_000  # of a task's rows: half of what a message or a body may have
SAMPLE_ROWS = 50


class Asker(Protocol):
    """Asks a service or the queue for the answers to some rows."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def predict(self, rows: Rows, timeout: float) -> Predicted:
        """Raises RequestRefused, ServiceBusy, or ServiceUnavailable, after which it may work."""
        ...


class RemoteScorer:
    """Sends rows in tasks. A task that is refused is halved, down to the row that is."""

    depth = 3  # blocks, so that one can be written while others wait

    def __init__(self, asker: Asker, card: Card, timeout: float) -> None:
        self._asker, self._card, self._timeout = asker, card, timeout
        self._window = Window()
        self._turn = asyncio.Lock()  # blocks are sent one after the other
        self._has_answered = False
        self._heard = time.monotonic()  # when the last answer came
        self._failed = False

    async def __aenter__(self) -> Self:
        await self._asker.__aenter__()
        self._heard = time.monotonic()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._asker.__aexit__()

    async def score(self, X: Any) -> Scores:
        rows = _plain(X, self._card.numeric)
        most = _most_rows(rows)
        sent: list[asyncio.Task[Scores]] = []
        start = 0
        try:
            async with self._turn:
                while start < len(rows) and not self._failed:
                    task = rows[start : start + min(most, self._window.task_rows)]
                    await self._window.enter(len(task))
                    sent.append(asyncio.create_task(self._score_task(task)))
                    start += len(task)
            return _joined(await asyncio.gather(*sent))
        finally:
            for waiting in sent:
                waiting.cancel()
            await asyncio.gather(*sent, return_exceptions=True)

    async def _score_task(self, rows: Rows) -> Scores:
        seconds = None
        start = time.monotonic()
        try:
            scores = await self._ask(rows)
            seconds = time.monotonic() - start
        except Exception:
            self._failed = True
            raise
        finally:
            await self._window.leave(len(rows), seconds)
        return scores

    async def _ask(self, rows: Rows) -> Scores:
        try:
            y, proba, score, model, _ = await self._persist(rows)
        except RequestRefused as e:
            if e.code in FINAL:
                raise
            if len(rows) == 1:
                return Scores([None], None, {0: Fault(e.code, str(e))})
            half = len(rows) // 2
            return _joined([await self._ask(rows[:half]), await self._ask(rows[half:])])
        self._check_model(model)
        numbers = numbers_of(Prediction(y, proba, score))
        return Scores(y, None if numbers is None else [*numbers], {})

    async def _persist(self, rows: Rows) -> Predicted:
        """The answers, also if the service is busy or away for a while."""
        while True:
            wait = RETRY_SECONDS
            try:
                predicted = await self._asker.predict(rows, self._timeout)
            except ServiceBusy as e:
                wait = RETRY_SECONDS if e.seconds is None else e.seconds
                self._check_time(e)
            except ServiceUnavailable as e:
                if not self._has_answered:
                    raise
                self._check_time(e)
            else:
                self._has_answered, self._heard = True, time.monotonic()
                return predicted
            await asyncio.sleep(wait)

    def _check_time(self, error: Exception) -> None:
        """Raise the error if no answer came for as long as the user waits."""
        if time.monotonic() - self._heard > self._timeout:
            raise error

    def _check_model(self, model: str) -> None:
        is_of_ours = re.fullmatch(r".+@[0-9a-f]{12}", model)  # other servers have other versions
        if is_of_ours and model != self._card.id:
            raise OtherModel(
                f"the answers are from the model {model}, and this command's is {self._card.id}; "
                "after a promotion, start again without --resume; else set PETAL_MODEL alike for "
                "both"
            )


def _plain(X: Any, numeric: bool) -> Rows:
    """Rows of Python's values, with None for a missing one."""
    rows: Rows = X.tolist()
    return rows if numeric else [[None if v != v else v for v in row] for row in rows]


def _most_rows(rows: Rows) -> int:
    """How many of the rows surely fit into a task, if they are alike."""
    sample = rows[:SAMPLE_ROWS]
    return max(1, TASK_BYTES * len(sample) // len(msgspec.json.encode(sample)))


def _joined(parts: Iterable[Scores]) -> Scores:
    y: list[Any] = []
    numbers: list[Numbers | None] = []
    faults: dict[int, Fault] = {}
    for part in parts:
        faults.update({len(y) + n: fault for n, fault in part.faults.items()})
        y += part.y
        numbers += part.numbers or [None] * len(part.y)
    return Scores(y, numbers if any(numbers) else None, faults)
