"""From a chunk of task records to their answers: decode, predict once, encode. No I/O.

Each record gets exactly one of three ends: a result with labels, a result with an error (it
could be read, and its id is known), or a dead letter (it could not be read).
"""

import math
import time
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec
import numpy as np

from infra.topics import MAX_RESULT_BYTES
from model.artifact import Loaded
from model.errors import PredictError
from model.predict import Prediction, matrix, predict
from streams.codec import (
    DECODE_ERRORS,
    ResultColumns,
    decode_result,
    digest_bytes,
    encode,
    encode_columns,
    input_digest,
)
from streams.events import Failure, Position, Result, TableTask, Task, Timings, are_ids, is_id
from streams.processing.decoder import Refused, Unreadable, explain
from streams.records import Columns

AnyTask = Task | TableTask


Message = tuple[bytes, bytes]  # a result's key and value


class DeadLetter(NamedTuple):
    """A record that could not be read, its bytes unchanged, and the reason as a stable code."""

    key: bytes | None
    value: bytes | None
    offset: int
    reason: str


class Answers(NamedTuple):
    """Together one entry per record of the batch, each list in the order of the records."""

    results: list[Message]
    dead_letters: list[DeadLetter]


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
        # (bytes, seconds) of the last chunk, from which the next one's cost is guessed: a task
        # may have one row or thousands.
        self._last: tuple[int, float] | None = None

    def seconds(self, batch: Columns) -> float:
        """A guess of what `answer` will take for a chunk; infinite before the first."""
        if self._last is None:
            return math.inf
        return self._last[1] * max(1.0, _bytes(batch) / self._last[0])

    def answer(self, partition: int, batch: Columns) -> Answers:
        """Answer the records of one partition of `tasks`; the order of results is theirs."""
        start = time.perf_counter()
        tasks = self._read_all(batch)
        if tasks is not None:
            answers = Answers(self._predict(tasks, batch.offsets, partition), [])
        else:
            answers = self._answer_singly_read(partition, batch)
        self._last = max(1, _bytes(batch)), time.perf_counter() - start
        return answers

    def _read_all(self, batch: Columns) -> list[AnyTask] | None:
        """One decode for the whole chunk, or None if any record needs a look of its own."""
        values = [value or b"" for value in batch.values]
        try:
            tasks: list[AnyTask] = self._decode_all(b"[" + b",".join(values) + b"]")
        except DECODE_ERRORS:
            return None
        rows: list[Sequence[Any]] = [row for task in tasks for row in task.X]
        counts = [len(task.X) for task in tasks]
        ids = [task.id for task in tasks]
        # The keys tell that no value passed for two, as `{…},{…}` would.
        if (
            [i.encode() for i in ids] != list(batch.keys)
            or not are_ids(ids)
            or not {task.model for task in tasks} <= {None, self._card.name}
            or not 0 < min(counts) <= max(counts) <= self._max_rows
            or set(map(len, rows)) != {self._width}
        ):
            return None
        return tasks

    def _answer_singly_read(self, partition: int, batch: Columns) -> Answers:
        tasks: list[AnyTask] = []
        offsets: list[int] = []
        refusals: dict[int, Message] = {}
        letters: list[DeadLetter] = []
        for offset, key, value in zip(*batch, strict=True):
            try:
                tasks.append(self._read_one(key, value))
                offsets.append(offset)
            except Unreadable as e:
                letters.append(DeadLetter(key, value, offset, str(e)))
            except Refused as e:
                refusals[offset] = self._refusal(e, partition, offset)
        predicted = self._predict(tasks, offsets, partition)
        ends = {**refusals, **dict(zip(offsets, predicted, strict=True))}
        return Answers([ends[offset] for offset in sorted(ends)], letters)

    def _read_one(self, key: bytes | None, value: bytes | None) -> AnyTask:
        if value is None:
            raise Unreadable("tombstone")
        if not value:
            raise Unreadable("empty_value")
        try:
            task: AnyTask = self._decode(value)
        except DECODE_ERRORS as e:
            raise explain(value, str(e)) from e
        if not is_id(task.id):
            raise Unreadable("bad_id")
        if failure := self._misfit(task, key):
            raise Refused(task.id, failure.code, failure.message, input_digest(task.X))
        return task

    def _misfit(self, task: AnyTask, key: bytes | None) -> Failure | None:
        if key is not None and key != task.id.encode():
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
        self, tasks: Sequence[AnyTask], offsets: Sequence[int], partition: int
    ) -> list[Message]:
        """Predict all rows at once; if that fails, halve until the task that fails is alone."""
        if not tasks:
            return []
        rows: list[Sequence[Any]] = [row for task in tasks for row in task.X]
        start = time.perf_counter()
        X = matrix(rows, self._card.numeric)
        try:
            prediction = predict(self._model, X)
        except PredictError as e:
            if len(tasks) == 1:
                digest = input_digest(tasks[0].X)
                refused = Refused(tasks[0].id, "predict_failed", str(e), digest)
                return [self._refusal(refused, partition, offsets[0])]
            half = len(tasks) // 2
            return [
                *self._predict(tasks[:half], offsets[:half], partition),
                *self._predict(tasks[half:], offsets[half:], partition),
            ]
        infer_ms = round((time.perf_counter() - start) * 1000, 3)
        return self._encode(tasks, offsets, partition, (prediction, _digests(tasks, X)), infer_ms)

    def _encode(
        self,
        tasks: Sequence[AnyTask],
        offsets: Sequence[int],
        partition: int,
        predicted: tuple[Prediction, list[str]],
        infer_ms: float,
    ) -> list[Message]:
        (y, proba), digests = predicted
        counts = [len(task.X) for task in tasks]
        queued = np.subtract(time.time(), [task.at for task in tasks]) * 1000
        columns = ResultColumns(
            ids=[task.id.encode() for task in tasks],
            y=_parts(y, counts),
            proba=None if proba is None else _parts(proba, counts),
            input=digests,
            offsets=offsets,
            queue_ms=queued.clip(0).round(3).tolist(),
        )
        values = encode_columns(columns, partition, self._card.id, self._worker, infer_ms)
        messages = list(zip(columns.ids, values, strict=True))
        if max(map(len, values)) > MAX_RESULT_BYTES:
            return [self._short_enough(message, partition) for message in messages]
        return messages

    def _refusal(self, refused: Refused, partition: int, offset: int) -> Message:
        result = Result(
            v=1,
            id=refused.task_id,
            error=refused.failure,
            input=refused.digest,
            model=self._card.id,
            worker=self._worker,
            task=Position(partition, offset),
            ms=Timings(0.0, 0.0),
        )
        return result.id.encode(), encode(result)

    def _short_enough(self, message: Message, partition: int) -> Message:
        _, value = message
        if len(value) <= MAX_RESULT_BYTES:
            return message
        text = f"the answer has {len(value):,} bytes, the limit is {MAX_RESULT_BYTES:,}"
        result = decode_result(value)
        refused = Refused(result.id, "result_too_large", text, result.input)
        return self._refusal(refused, partition, result.task.offset)


def _bytes(batch: Columns) -> int:
    return sum(map(len, filter(None, batch.values)))


def _parts(values: list[Any], counts: Sequence[int]) -> list[list[Any]]:
    """The values of each task, which has `counts` rows."""
    if len(values) == len(counts):  # a row each, as most have: a quarter of the cost of slices
        return [[value] for value in values]
    ends = accumulate(counts)
    return [values[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _digests(tasks: Sequence[AnyTask], X: np.ndarray[Any, Any]) -> list[str]:
    """`input_digest` of each task; `X` has the rows of all."""
    if X.dtype == object or len(tasks) != len(X):
        return [input_digest(task.X) for task in tasks]
    # The same bytes, a row each, without a call of `array` for each.
    return list(map(digest_bytes, X.view(f"V{X[0].nbytes}").ravel().tolist()))
