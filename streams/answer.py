"""From a chunk of task records to their answers: decode, predict once, encode. No I/O.

Each record gets exactly one of three ends: a result with labels, a result with an error (it
could be read, and its id is known), or a dead letter (it could not be read).
"""

import json
import math
import time
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from model.artifact import Loaded
from model.predict import PredictError, matrix, predict
from streams.events import (
    Failure,
    Position,
    Result,
    TableTask,
    Task,
    Timings,
    encode,
    is_id,
)
from streams.topics import MAX_RESULT_BYTES

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Record(Protocol):
    """What is needed of a Kafka record."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class Message(NamedTuple):
    """A result to publish."""

    key: bytes
    value: bytes


class DeadLetter(NamedTuple):
    """A record that could not be read, its bytes unchanged, and the reason as a stable code."""

    key: bytes | None
    value: bytes | None
    offset: int
    reason: str


class Answers(NamedTuple):
    """One entry per record of the chunk, in the order of the records."""

    results: list[Message]
    dead_letters: list[DeadLetter]


class Unreadable(Exception):
    """A value without a task id to answer to; `str()` is the dead letter's reason."""


class Refused(Exception):
    """A task that can be read but not predicted."""

    def __init__(self, task_id: str, code: str, message: str) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.failure = Failure(code, message)


class _Asked(NamedTuple):
    task: Task | TableTask
    offset: int


class Answerer:
    """Answers chunks with one model. `worker` names this process in every result."""

    def __init__(self, loaded: Loaded, worker: str, max_rows: int) -> None:
        self._model, self._card = loaded
        self._worker = worker
        self._max_rows = max_rows
        self._width = len(self._card.features)
        kind: Any = Task if self._card.numeric else TableTask
        self._decode = msgspec.json.Decoder(kind).decode
        self._decode_all = msgspec.json.Decoder(list[kind]).decode
        # (rows, seconds) of the last chunk, from which the next one's cost is guessed.
        self._last: tuple[int, float] | None = None

    def seconds(self, records: int) -> float:
        """A guess of what `answer` will take for so many records; infinite before the first."""
        if self._last is None:
            return math.inf
        return self._last[1] * max(1.0, records / self._last[0])

    def answer(self, partition: int, records: Sequence[Record]) -> Answers:
        """Answer the records of one partition of `tasks`."""
        start = time.perf_counter()
        ends: dict[int, Message | DeadLetter] = {}
        asked = self._read(records, partition, ends)
        self._predict(asked, partition, ends)
        self._last = len(records), time.perf_counter() - start
        ordered = [ends[record.offset] for record in records]
        return Answers(
            [end for end in ordered if isinstance(end, Message)],
            [end for end in ordered if isinstance(end, DeadLetter)],
        )

    def _read(
        self, records: Sequence[Record], partition: int, ends: dict[int, Message | DeadLetter]
    ) -> list[_Asked]:
        tasks = self._read_all(records)
        if tasks is not None:
            return [_Asked(t, r.offset) for t, r in zip(tasks, records, strict=True)]
        asked = []
        for record in records:
            try:
                asked.append(_Asked(self._read_one(record), record.offset))
            except Unreadable as e:
                letter = DeadLetter(record.key, record.value, record.offset, str(e))
                ends[record.offset] = letter
            except Refused as e:
                ends[record.offset] = self._refusal(e, partition, record.offset)
        return asked

    def _read_all(self, records: Sequence[Record]) -> list[Task | TableTask] | None:
        """One decode for the whole chunk, or None if any record needs a look of its own."""
        try:
            tasks = self._decode_all(b"[" + b",".join([r.value or b"" for r in records]) + b"]")
        except DECODE_ERRORS:
            return None
        # A value such as `{…},{…}` is no task but passes as two.
        if len(tasks) != len(records) or not all(map(self._fits, tasks, records)):
            return None
        return list(tasks)

    def _fits(self, task: Task | TableTask, record: Record) -> bool:
        rows, width = task.X, self._width
        return (
            record.key == task.id.encode()
            and 0 < len(rows) <= self._max_rows
            and (task.model is None or task.model == self._card.name)
            and all(len(row) == width for row in rows)
        )

    def _read_one(self, record: Record) -> Task | TableTask:
        if record.value is None:
            raise Unreadable("tombstone")
        if not record.value:
            raise Unreadable("empty_value")
        try:
            task: Task | TableTask = self._decode(record.value)
        except DECODE_ERRORS as e:
            raise explain(record.value, str(e)) from e
        if failure := self._misfit(task, record):
            raise Refused(task.id, failure.code, failure.message)
        return task

    def _misfit(self, task: Task | TableTask, record: Record) -> Failure | None:
        if record.key is not None and record.key != task.id.encode():
            return Failure("key_mismatch", "the record's key is not the task's id")
        if task.model not in (None, self._card.name, self._card.id):
            return Failure("unknown_model", f"this pipeline serves {self._card.id}")
        if not task.X:
            return Failure("no_rows", "X has no rows")
        if len(task.X) > self._max_rows:
            return Failure("too_many_rows", f"got {len(task.X)} rows, at most {self._max_rows}")
        for row in task.X:
            if len(row) != self._width:
                message = f"got {len(row)} features, the model wants {self._width}"
                return Failure("wrong_width", message)
        return None

    def _predict(
        self, asked: Sequence[_Asked], partition: int, ends: dict[int, Message | DeadLetter]
    ) -> None:
        """Predict all rows at once; if that fails, halve until the task that fails is alone."""
        if not asked:
            return
        rows: list[Sequence[Any]] = [row for a in asked for row in a.task.X]
        start = time.perf_counter()
        try:
            y, proba = predict(self._model, matrix(rows, self._card.numeric))
        except PredictError as e:
            self._predict_halves(asked, partition, ends, e)
            return
        infer_ms = round((time.perf_counter() - start) * 1000, 3)
        first = 0
        now = time.time()
        for task, offset in asked:
            end = first + len(task.X)
            result = Result(
                v=1,
                id=task.id,
                y=y[first:end],
                proba=None if proba is None else proba[first:end],
                model=self._card.id,
                worker=self._worker,
                task=Position(partition, offset),
                ms=Timings(round(max(0.0, now - task.at) * 1000, 3), infer_ms),
            )
            ends[offset] = self._message(result)
            first = end

    def _predict_halves(
        self,
        asked: Sequence[_Asked],
        partition: int,
        ends: dict[int, Message | DeadLetter],
        error: PredictError,
    ) -> None:
        if len(asked) > 1:
            half = len(asked) // 2
            self._predict(asked[:half], partition, ends)
            self._predict(asked[half:], partition, ends)
            return
        task, offset = asked[0]
        refused = Refused(task.id, "predict_failed", str(error))
        ends[offset] = self._refusal(refused, partition, offset)

    def _refusal(self, refused: Refused, partition: int, offset: int) -> Message:
        result = Result(
            v=1,
            id=refused.task_id,
            error=refused.failure,
            model=self._card.id,
            worker=self._worker,
            task=Position(partition, offset),
            ms=Timings(0.0, 0.0),
        )
        return Message(result.id.encode(), encode(result))

    def _message(self, result: Result) -> Message:
        value = encode(result)
        if len(value) > MAX_RESULT_BYTES:
            message = f"the answer has {len(value):,} bytes, the limit is {MAX_RESULT_BYTES:,}"
            refused = Refused(result.id, "result_too_large", message)
            return self._refusal(refused, result.task.partition, result.task.offset)
        return Message(result.id.encode(), value)


def explain(value: bytes, detail: str) -> Unreadable | Refused:
    """Why a value is no task: Refused if it has an id to answer to, else Unreadable."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return Unreadable("bad_utf8")
    try:
        task = json.loads(text)  # unlike msgspec it reads NaN, so that the task can be told so
    except RecursionError:
        return Unreadable("too_deep")
    except ValueError:
        return Unreadable("bad_json")
    if not isinstance(task, dict):
        return Unreadable("not_an_object")
    task_id = task.get("id")
    if not isinstance(task_id, str) or not is_id(task_id):
        return Unreadable("bad_id")
    return Refused(task_id, *_fault(task, detail))


def _fault(task: dict[str, Any], detail: str) -> tuple[str, str]:
    for field in ("v", "X", "at"):
        if field not in task:
            return "missing_field", f"the field {field} is missing"
    if type(task["v"]) is not int:
        return "wrong_type", "v must be the number 1"
    if task["v"] != 1:
        return "unsupported_version", "this pipeline reads version 1"
    if not isinstance(task["X"], list) or not all(isinstance(row, list) for row in task["X"]):
        return "wrong_shape", "X must be a list of rows, each a list of features"
    for value in chain.from_iterable(task["X"]):
        if isinstance(value, float) and not np.isfinite(value):
            return "not_finite", "X holds a number that is not finite"
    return "wrong_type", detail[:200]
