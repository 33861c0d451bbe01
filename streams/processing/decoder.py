"""From the records of a chunk to the tasks that the model can predict.

Each record becomes a task, an InvalidTask (its id is known, so it gets an error result), or a
dead letter (it has no id to answer to).
"""

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import msgspec

from infra.topics import MAX_VALUE_BYTES
from model.card import Card
from model.errors import UNKNOWN_MODEL, InvalidRow, NotServed
from model.rows import check, check_count
from streams.codec import DECODE_ERRORS, input_digest
from streams.events import BooleanTask, Failure, TableTask, Task, are_ids, is_id
from streams.records import Columns

AnyTask = Task | TableTask | BooleanTask


class UnreadableTask(Exception):
    """A value without a task id to answer to; `str()` is the dead letter's reason."""


class InvalidTask(Exception):
    """A task that cannot be predicted; `digest` is that of its rows, where they can be read."""

    def __init__(self, task_id: str, failure: Failure, digest: str | None = None) -> None:
        super().__init__(failure.message)
        self.task_id = task_id
        self.failure = failure
        self.digest = digest


class DeadLetter(NamedTuple):
    """A record that could not be read, its bytes unchanged, and the reason as a stable code."""

    key: bytes | None
    value: bytes | None
    offset: int
    reason: str


class Batch(NamedTuple):
    """Valid tasks with their offsets and numbers of rows, and the rows of all of them."""

    tasks: Sequence[AnyTask]
    offsets: Sequence[int]
    counts: Sequence[int]
    rows: list[Sequence[Any]]


class Decoded(NamedTuple):
    """The valid tasks of a chunk, and its other records, each list in the chunk's order."""

    batch: Batch
    invalid: list[tuple[int, InvalidTask]]
    dead_letters: list[DeadLetter]


class Naming(NamedTuple):
    """What a task's `model` may be for one of the models, and why it is not served otherwise."""

    names: Collection[str | None]
    explain: Callable[[str], NotServed]


def only_model(card: Card) -> Naming:
    """The naming of a pipeline with a single model."""
    error = NotServed(UNKNOWN_MODEL, f"this pipeline serves {card.id}")
    return Naming({None, card.name, card.id}, lambda _: error)


class Decoder:
    """Decodes the tasks of one model, by one call for the whole chunk where all are valid."""

    def __init__(self, card: Card, max_rows: int, naming: Naming | None = None) -> None:
        self._card = card
        names, self._explain_model = naming or only_model(card)
        self._names = frozenset(names)
        self._max_rows = max_rows
        self._width = len(card.features)
        self._takes_any_number = card.takes_any_number
        table = BooleanTask if card.has_booleans else TableTask
        kind: Any = Task if card.numeric else table
        self._decode_task = msgspec.json.Decoder(kind).decode
        self._decode_tasks = msgspec.json.Decoder(list[kind]).decode

    def decode(self, columns: Columns) -> Decoded:
        """Decode records of one partition of `tasks`."""
        batch = self._decode_together(columns)
        return self._decode_singly(columns) if batch is None else Decoded(batch, [], [])

    def _decode_together(self, columns: Columns) -> Batch | None:
        """The tasks, or None if any record must be decoded alone."""
        values = [value or b"" for value in columns.values]
        if max(map(len, values), default=0) > MAX_VALUE_BYTES:
            return None
        try:
            tasks: list[AnyTask] = self._decode_tasks(b"[" + b",".join(values) + b"]")
        except DECODE_ERRORS:
            return None
        batch = _batch(tasks, columns.offsets)
        ids = [task.id for task in tasks]
        # The keys show that no value passed for two, as `{…},{…}` would.
        if (
            [i.encode() for i in ids] != list(columns.keys)
            or not are_ids(ids)
            or not {task.model for task in tasks} <= self._names
            or not 0 < min(batch.counts) <= max(batch.counts) <= self._max_rows
            or not self._are_valid(batch.rows)
        ):
            return None
        return batch

    def _are_valid(self, X: Sequence[Sequence[Any]]) -> bool:
        if self._takes_any_number:  # the decoder has checked types and finiteness
            return set(map(len, X)) == {self._width}
        try:
            check(self._card, X)
        except InvalidRow:
            return False
        return True

    def _decode_singly(self, columns: Columns) -> Decoded:
        tasks: list[AnyTask] = []
        offsets: list[int] = []
        invalid: list[tuple[int, InvalidTask]] = []
        letters: list[DeadLetter] = []
        for offset, key, value in zip(*columns, strict=True):
            try:
                tasks.append(self._decode_one(key, value))
                offsets.append(offset)
            except UnreadableTask as e:
                letters.append(DeadLetter(key, value, offset, str(e)))
            except InvalidTask as e:
                invalid.append((offset, e))
        return Decoded(_batch(tasks, offsets), invalid, letters)

    def _decode_one(self, key: bytes | None, value: bytes | None) -> AnyTask:
        if value is None:
            raise UnreadableTask("tombstone")
        if not value:
            raise UnreadableTask("empty_value")
        if len(value) > MAX_VALUE_BYTES:
            raise UnreadableTask("too_large")
        try:
            task: AnyTask = self._decode_task(value)
        except DECODE_ERRORS as e:
            raise self._explain(value, str(e)) from e
        if not is_id(task.id):
            raise UnreadableTask("bad_id")
        failure = self._find_mismatch(task, key)
        if failure is None and not (0 < len(task.X) <= self._max_rows and self._are_valid(task.X)):
            failure = self._find_invalid_row(task.X)
        if failure is not None:
            raise InvalidTask(task.id, failure, input_digest(task.X))
        return task

    def _find_mismatch(self, task: AnyTask, key: bytes | None) -> Failure | None:
        if key is not None and key != task.id.encode():
            return Failure("key_mismatch", "the record's key is not the task's id")
        return self._find_other_model(task.model)

    def _find_other_model(self, model: Any) -> Failure | None:
        if not isinstance(model, str) or model in self._names:
            return None
        error = self._explain_model(model)
        return Failure(error.code, str(error))

    def _find_invalid_row(self, X: Any) -> Failure | None:
        try:
            if isinstance(X, list):
                check_count(len(X), self._max_rows)
            check(self._card, X)
        except InvalidRow as e:
            return Failure(e.code, str(e))
        return None

    def _explain(self, value: bytes, detail: str) -> InvalidTask:
        """Why a value is not a task, by `detail` if nothing more exact is found.

        Raises UnreadableTask if it has no id to answer to.
        """
        fields = _read_fields(value)
        failure = (
            _find_invalid_field(fields)
            or self._find_other_model(fields.get("model"))
            or self._find_invalid_row(fields["X"])
        )
        return InvalidTask(fields["id"], failure or Failure("wrong_type", detail[:200]))


def _batch(tasks: Sequence[AnyTask], offsets: Sequence[int]) -> Batch:
    rows: list[Sequence[Any]] = [row for task in tasks for row in task.X]
    return Batch(tasks, offsets, [len(task.X) for task in tasks], rows)


def _read_fields(value: bytes) -> dict[str, Any]:
    """The fields of a JSON object with a task id; raises UnreadableTask."""
    try:
        # Unlike msgspec, Python's reader takes NaN, so the error can name it.
        fields = json.loads(value.decode("utf-8"))
    except UnicodeDecodeError as e:
        raise UnreadableTask("bad_utf8") from e
    except RecursionError as e:
        raise UnreadableTask("too_deep") from e
    except ValueError as e:
        raise UnreadableTask("bad_json") from e
    if not isinstance(fields, dict):
        raise UnreadableTask("not_an_object")
    task_id = fields.get("id")
    if not isinstance(task_id, str) or not is_id(task_id):
        raise UnreadableTask("bad_id")
    return fields


def _find_invalid_field(fields: dict[str, Any]) -> Failure | None:
    for field in ("v", "X", "at"):
        if field not in fields:
            return Failure("missing_field", f"the field {field} is missing")
    if type(fields["v"]) is not int:
        return Failure("wrong_type", "v must be the number 1")
    if fields["v"] != 1:
        return Failure("unsupported_version", "this pipeline reads version 1")
    return None
