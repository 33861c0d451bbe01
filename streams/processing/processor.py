"""From a chunk of tasks to its results: decode, predict all rows in one call, encode. No I/O.

Each record has exactly one outcome: a result with labels, a result with an error, or a dead
letter.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from infra.topics import MAX_RESULT_BYTES
from model.artifact import Loaded
from model.errors import PredictError, describe
from model.predict import (
    CostEstimate,
    Joint,
    Prediction,
    matrix,
    predict_together,
    predictor,
    split,
)
from model.values.ranges import Ranges
from streams.codec import (
    ResultColumns,
    decode_result,
    digest_bytes,
    encode,
    encode_columns,
    input_digest,
)
from streams.events import Failure, Position, Result, Timings
from streams.processing.decoder import (
    AnyTask,
    Batch,
    DeadLetter,
    Decoded,
    Decoder,
    InvalidTask,
    Naming,
)
from streams.records import Columns

MAX_QUEUE_MS = 1e13  # 317 years: a task whose `at` is before that has no time of creation
KeyValue = tuple[bytes, bytes]  # of a record to publish


class Predicted(NamedTuple):
    """What a prediction took: the rows of several tasks, the seconds of one call of the model, and
    the milliseconds that each task had waited."""

    model: str  # its id
    rows: int
    seconds: float
    queue_ms: "np.ndarray[Any, Any]"


class Processed(NamedTuple):
    """The outcomes of a chunk's records, each list in the order of the records.

    `offsets`: of the task of each result. `failures`: why a task has no labels, by its offset.
    `predicted`: of the predictions in this process.
    """

    results: list[KeyValue]
    offsets: list[int]
    failures: dict[int, Failure]
    dead_letters: list[DeadLetter]
    predicted: Sequence[Predicted] = ()


# What decoding, predicting and encoding may raise. Processes of the pipeline handle SIGINT in
# their event loop, so a KeyboardInterrupt is an estimator's.
ERRORS = (Exception, KeyboardInterrupt)
INTERNAL_ERROR = "internal_error"
# Of values to process in one step: their rows take more than ten times as much memory.
MAX_STEP_BYTES = 4_000_000


class Processor:
    """Processes chunks with one model. `worker` names this process in every result.

    It raises nothing for a record: if a chunk fails in a way that nobody foresaw, its halves are
    processed, down to the record that fails alone and gets the error as its outcome.
    """

    def __init__(
        self, loaded: Loaded, worker: str, max_rows: int, naming: Naming | None = None
    ) -> None:
        self._card = loaded.card
        self._worker = worker
        self._decoder = Decoder(loaded.card, max_rows, naming)
        self._predict = predictor(loaded.model, loaded.card)
        self._ranges = Ranges(loaded.card)
        self._cost = CostEstimate()  # by bytes: a task may have one row or thousands

    @property
    def model(self) -> str:
        """The id of the model."""
        return self._card.id

    def estimate_seconds(self, columns: Columns) -> float:
        """The estimated seconds of `process` for a chunk; infinite before the first."""
        return self._cost.guess(columns.bytes)

    def process(self, partition: int, columns: Columns) -> Processed:
        """Process records of one partition of `tasks`."""
        start = time.perf_counter()
        size = columns.bytes
        if size <= MAX_STEP_BYTES:
            processed = self._process(partition, columns)
        else:
            steps = columns.steps(MAX_STEP_BYTES)
            processed = join(self._process(partition, step) for step in steps)
        self._cost.observe(size, time.perf_counter() - start)
        return processed

    def decode(self, columns: Columns) -> Decoded:
        """The first step of `process`."""
        return self._decoder.decode(columns)

    def answer(self, partition: int, decoded: Decoded) -> Processed:
        """The second step of `process`: predict and encode."""
        batch, invalid, dead_letters = decoded
        results = self._new_results(partition)
        for offset, task in invalid:
            results.add_error(offset, task)
        if batch.tasks:
            self._predict_all(batch, results)
        return results.build(dead_letters)

    def fail(self, partition: int, offset: int, task: InvalidTask) -> Processed:
        """The outcome of a single task that this process, or another one, failed for."""
        results = self._new_results(partition)
        results.add_error(offset, task)
        return results.build([])

    def _new_results(self, partition: int) -> "ResultBuilder":
        return ResultBuilder(partition, self._card.id, self._worker)

    def _process(self, partition: int, columns: Columns) -> Processed:
        try:
            return self.answer(partition, self.decode(columns))
        except ERRORS as e:
            if len(columns.offsets) == 1:
                return self._process_failing(partition, columns, e)
        half = len(columns.offsets) // 2
        parts = (slice(half), slice(half, None))
        return join([self._process(partition, columns.part(part)) for part in parts])

    def _process_failing(self, partition: int, columns: Columns, error: BaseException) -> Processed:
        """The outcome of a record for which `process` raised the error."""
        ([offset], [key], [value]) = columns
        try:
            batch, invalid, dead_letters = self.decode(columns)
        except ERRORS:  # nobody knows whose task it is
            return Processed([], [], {}, [DeadLetter(key, value, offset, INTERNAL_ERROR)])
        if dead_letters:
            return Processed([], [], {}, dead_letters)
        task_id = invalid[0][1].task_id if invalid else batch.tasks[0].id
        failure = Failure(INTERNAL_ERROR, describe(error))
        return self.fail(partition, offset, InvalidTask(task_id, failure))

    def _predict_all(self, batch: Batch, results: "ResultBuilder") -> None:
        tasks, offsets, counts, rows = batch
        start = time.perf_counter()
        X = matrix(rows, self._card.numeric)
        joints = predict_together(self._predict, X, counts)
        seconds = time.perf_counter() - start
        infer_ms = round(seconds * 1000, 3)
        queue_ms = _queue_ms(tasks)
        results.predicted.append(Predicted(self._card.id, len(X), seconds, queue_ms))
        warnings = self._ranges.find(X, counts)
        digests = _digests(tasks, X)
        for part, outcome in _outcomes(joints):
            if isinstance(outcome, PredictError):
                ([task], [offset], [digest]) = tasks[part], offsets[part], digests[part]
                failure = Failure(outcome.code, str(outcome))
                results.add_error(offset, InvalidTask(task.id, failure, digest))
            else:
                columns = _columns(tasks[part], counts[part], outcome, digests[part], offsets[part])
                columns = columns._replace(queue_ms=queue_ms[part].tolist())
                if warnings:
                    of_part = range(part.start, part.stop)
                    columns = columns._replace(warnings=list(map(warnings.get, of_part)))
                results.add(columns, infer_ms)


class ResultBuilder:
    """Encodes the results of one chunk, in whatever order they come."""

    def __init__(self, partition: int, model: str, worker: str) -> None:
        self._partition, self._model, self._worker = partition, model, worker
        self._results: list[KeyValue] = []
        self._offsets: list[int] = []
        self._failures: dict[int, Failure] = {}
        self.predicted: list[Predicted] = []

    def add(self, columns: ResultColumns, infer_ms: float) -> None:
        """Add results with labels; one that is too long for a record becomes an error."""
        values = encode_columns(columns, self._partition, self._model, self._worker, infer_ms)
        if max(map(len, values)) <= MAX_RESULT_BYTES:
            self._results += zip(columns.ids, values, strict=True)
            self._offsets += columns.offsets
            return
        rows = zip(columns.offsets, columns.ids, columns.input, values, strict=True)
        for offset, task_id, digest, value in rows:
            if len(value) <= MAX_RESULT_BYTES:
                self._append(offset, task_id, value)
            else:
                text = f"the result has {len(value):,} bytes, the limit is {MAX_RESULT_BYTES:,}"
                failure = Failure("result_too_large", text)
                self.add_error(offset, InvalidTask(task_id.decode(), failure, digest))

    def add_error(self, offset: int, task: InvalidTask) -> None:
        """Add the result of a task without labels."""
        failure = task.failure
        # The sentence may repeat half of a surrogate pair, which Python's reader of JSON takes.
        message = failure.message.encode("utf-8", "replace").decode()
        result = Result(
            v=1,
            id=task.task_id,
            error=Failure(failure.code, message),
            input=task.digest,
            model=self._model,
            worker=self._worker,
            task=Position(self._partition, offset),
            ms=Timings(0.0, 0.0),
        )
        self._failures[offset] = task.failure
        self._append(offset, result.id.encode(), encode(result))

    def _append(self, offset: int, task_id: bytes, value: bytes) -> None:
        self._offsets.append(offset)
        self._results.append((task_id, value))

    def build(self, dead_letters: list[DeadLetter]) -> Processed:
        """All that were added, in the order of their tasks."""
        results, offsets = self._results, self._offsets
        if self._failures:
            order = sorted(range(len(offsets)), key=offsets.__getitem__)
            results, offsets = [results[n] for n in order], [offsets[n] for n in order]
        return Processed(results, offsets, self._failures, dead_letters, self.predicted)


def refused(value: bytes, error: str) -> bytes:
    """The result to publish in place of one that the broker does not take, by its error."""
    too_large = "TooLarge" in error
    failure = Failure(
        "result_too_large" if too_large else "result_refused",
        f"the broker refused the result of {len(value):,} bytes: {error}",
    )
    result = decode_result(value)
    return encode(
        msgspec.structs.replace(
            result, y=None, proba=None, score=None, warnings=None, error=failure
        )
    )


def join(parts: Iterable[Processed]) -> Processed:
    """The outcomes of consecutive parts of a chunk as those of the whole."""
    whole, predicted = Processed([], [], {}, []), list[Predicted]()
    for part in parts:
        whole.results.extend(part.results)
        whole.offsets.extend(part.offsets)
        whole.failures.update(part.failures)
        whole.dead_letters.extend(part.dead_letters)
        predicted.extend(part.predicted)
    return whole._replace(predicted=predicted)


def _outcomes(joints: Iterable[Joint]) -> Iterator[tuple[slice, Prediction | PredictError]]:
    """The outcomes of joint predictions, and which of the tasks each is for."""
    end = 0
    for parts, outcome in joints:
        start, end = end, end + parts
        yield slice(start, end), outcome


def _queue_ms(tasks: Sequence[AnyTask]) -> "np.ndarray[Any, Any]":
    with np.errstate(over="ignore"):  # `at` may be any number, such as -1e305
        queued = np.subtract(time.time(), [task.at for task in tasks]) * 1000
    return queued.clip(0, MAX_QUEUE_MS).round(3)


def _columns(
    tasks: Sequence[AnyTask],
    counts: Sequence[int],
    predicted: Prediction,
    digests: Sequence[str],
    offsets: Sequence[int],
) -> ResultColumns:
    """All columns but `warnings` and `queue_ms`."""
    return ResultColumns(
        ids=[task.id.encode() for task in tasks],
        y=split(predicted.y, counts),
        proba=None if predicted.proba is None else split(predicted.proba, counts),
        score=None if predicted.score is None else split(predicted.score, counts),
        warnings=None,
        input=digests,
        offsets=offsets,
        queue_ms=(),
    )


def _digests(tasks: Sequence[AnyTask], X: np.ndarray[Any, Any]) -> list[str]:
    """`input_digest` of each task; `X` has the rows of all."""
    if X.dtype == object or len(tasks) != len(X):
        return [input_digest(task.X) for task in tasks]
    # The same bytes, a row each, without a call of `array` for each.
    return list(map(digest_bytes, X.view(f"V{X[0].nbytes}").ravel().tolist()))
