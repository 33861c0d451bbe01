"""The task in a request: its rows, its id, and how long the client wants to wait."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request

from api.errors import BadRequest, RequestError, TooMuch, Unprocessable, short
from model import rows
from model.card import Card, Value
from model.errors import InvalidRow
from model.examples import example_row
from streams.codec import named_model
from streams.events import BooleanRow, ModelReference, Row, TableRow, TaskId, new_id

MAX_WAIT_SECONDS = 60

CardOf = Callable[[str | None], Card]  # of the model that a task names; raises RequestError


class NumericTask(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /tasks` for a model with numbers only: `X` has shape (rows, features)."""

    X: list[Row]
    id: TaskId | None = None
    model: ModelReference | None = None


class MixedTask(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /tasks` for a model with text or missing values."""

    X: list[TableRow]
    id: TaskId | None = None
    model: ModelReference | None = None


class TaskWithBooleans(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /tasks` for a model with a boolean column."""

    X: list[BooleanRow]
    id: TaskId | None = None
    model: ModelReference | None = None


class NewTask(msgspec.Struct):
    """A task to publish, for the model `name`.

    `model` is what the client sent. `is_id_given`: it chose the id, so this may be a retry.
    """

    id: str
    X: list[list[Value]]
    model: str | None
    name: str
    is_id_given: bool


def example(card: Card) -> dict[str, Any]:
    """The body of a task of one row."""
    return {"X": [example_row(card)]}


def naming_example(card: Card) -> dict[str, Any]:
    """The body of a task of one row, which names the model."""
    return {**example(card), "model": card.name}


def example_lines(card: Card) -> str:
    """The body of two tasks, one in each line."""
    return 2 * _line(example(card))


def naming_lines(card: Card) -> str:
    """The body of two tasks, one in each line, which name the model."""
    return 2 * _line(naming_example(card))


def _line(task: dict[str, Any]) -> str:
    return json.dumps(task, ensure_ascii=False) + "\n"


def parse(data: bytes, card_of: CardOf, max_rows: int) -> NewTask:
    """The task in a body, with an id.

    Raises BadRequest if the body is not JSON, TooMuch above `max_rows` rows, Unavailable if
    the model's file cannot be loaded, and Unprocessable, which names the field, if it is not a task
    for the model that it names.
    """
    card = card_of(named_model(data))
    task = _decode(data, card, max_rows)
    try:
        _check_rows(task.X, card, max_rows)
    except RequestError:
        # The error shows the value that was sent; decoded as a float, 2 would be 2.0.
        _check_rows(_decode_leniently(data), card, max_rows)
        raise
    return NewTask(task.id or new_id(), task.X, task.model, card.name, task.id is not None)


def _decode(data: bytes, card: Card, max_rows: int) -> Any:
    table = TaskWithBooleans if card.has_booleans else MixedTask
    kind: Any = NumericTask if card.numeric else table
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as e:
        if _is_in_rows(e):
            _check_rows(_decode_leniently(data), card, max_rows)
        raise Unprocessable(short(str(e))) from e
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        _check_rows(_decode_leniently(data), card, max_rows)
        raise BadRequest(f"not JSON: {e}") from e
    except RecursionError as e:
        raise BadRequest("nested too deep") from e


def _is_in_rows(error: msgspec.ValidationError) -> bool:
    return str(error).rpartition(" - at `")[2].startswith("$.X")


def _decode_leniently(data: bytes) -> Any:
    """The field `X` as Python's json reads it, with NaN and values of any type, or UNSET."""
    try:
        task = json.loads(data.decode())
    except (ValueError, RecursionError):
        return msgspec.UNSET
    return task.get("X", msgspec.UNSET) if isinstance(task, dict) else msgspec.UNSET


def _check_rows(X: Any, card: Card, max_rows: int) -> None:
    """Apply `model/rows.py`; raises its error as the error of a response."""
    try:
        if isinstance(X, list):
            rows.check_count(len(X), max_rows)
        if X is not msgspec.UNSET:
            rows.check(card, X)
    except InvalidRow as e:
        raise _request_error(e) from e


def _request_error(error: InvalidRow) -> RequestError:
    kind = TooMuch if error.code == "too_many_rows" else Unprocessable
    return kind(str(error), code=error.code)


def wait_wanted(request: Request) -> int | None:
    """The seconds of `Prefer: wait=…` (RFC 7240), at most MAX_WAIT_SECONDS, or None."""
    for header in request.headers.getlist("prefer"):
        for preference in header.split(","):
            name, _, value = preference.partition(";")[0].partition("=")
            value = value.strip().strip('"')
            if name.strip().lower() == "wait" and value.isdecimal() and len(value) < 10:
                return min(int(value), MAX_WAIT_SECONDS)
    return None
