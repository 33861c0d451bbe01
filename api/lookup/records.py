"""What look-ups return: results in short, a task's story, dead letters."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from streams.codec import DECODE_ERRORS
from streams.events import BooleanRow, BooleanTask, Label, Position, Result
from streams.maintenance.dead_letters import Letter
from streams.maintenance.record import Record

MAX_SHOWN = 2000  # characters of a dead letter's value
MAX_LABELS = 20  # answers of a task with many rows


class ResultView(Struct, omit_defaults=True):
    """A result in short. `labels` has the first answers of `rows`; times are seconds or ms."""

    id: str
    at: float
    model: str
    worker: str
    task: Position
    queue_ms: float
    infer_ms: float
    labels: list[Label] | None = None
    rows: int | None = None
    error: str | None = None


class Results(Struct):
    """The newest results first. `left`: so many stored ones cannot be searched yet."""

    results: list[ResultView]
    left: int


class Asked(Struct):
    """A task as it lies in `tasks`: when its client made it, and when the broker took it."""

    created_at: float
    logged_at: float
    X: list[BooleanRow]
    model: str | None


class Repeat(Struct):
    """A further result of the task, which changed nothing; `error` if the id was another task's."""

    partition: int
    offset: int
    error: str | None


class Story(Struct):
    """A task from its creation to its stored result.

    `answer` is the result's place in `results`, and `answered_at` the broker's time there. If the
    task itself cannot be shown, `asked` is None and `missing` says why.
    """

    result: Result
    answer: Position
    answered_at: float
    asked: Asked | None
    missing: str | None
    repeats: list[Repeat]


class LetterView(Struct):
    """A dead letter: its offset in `dead-letters`, why it could not be read, and where it was.

    `text`: the beginning of its value, with what is not UTF-8 in escapes.
    """

    offset: int
    reason: str
    task: Position | None
    at: float
    bytes: int | None
    text: str
    detail: str | None = None


def from_result(row: Mapping[str, Any], result: Result) -> ResultView:
    """A stored result."""
    return ResultView(
        result.id,
        row["answered_at_ms"] / 1000,
        result.model,
        result.worker,
        result.task,
        result.ms.queue,
        result.ms.infer,
        None if result.y is None else result.y[:MAX_LABELS],
        None if result.y is None else len(result.y),
        None if result.error is None else result.error.code,
    )


def from_row(row: Mapping[str, Any]) -> ResultView:
    """A row of the view `result`."""
    labels = None if row["y"] is None else msgspec.json.decode(row["y"])
    return ResultView(
        row["task_id"],
        row["answered_at_ms"] / 1000,
        row["model"],
        row["worker"],
        Position(row["task_partition"], row["task_offset"]),
        row["queue_ms"],
        row["infer_ms"],
        None if labels is None else labels[:MAX_LABELS],
        None if labels is None else len(labels),
        row["error_code"],
    )


def asked(record: Record, task_id: str) -> Asked | None:
    """The task in a record; None if it is not that task."""
    try:
        task = _decode_task(record.value or b"")
    except DECODE_ERRORS:
        return None
    if task.id != task_id:
        return None
    return Asked(task.at, record.timestamp_ms / 1000, task.X, task.model)


_decode_task = msgspec.json.Decoder(BooleanTask).decode


def letter(found: Letter) -> LetterView:
    """A dead letter for people."""
    size = found.full_bytes if found.full_bytes is not None else len(found.value or b"")
    return LetterView(
        found.offset,
        found.reason,
        None if found.source is None else Position(*found.source),
        found.timestamp_ms / 1000,
        None if found.value is None else size,
        (found.value or b"").decode("utf-8", "backslashreplace")[:MAX_SHOWN],
        found.detail,
    )
