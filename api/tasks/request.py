"""The question in a request for a task: its rows, its id, and how long the client would wait."""

from typing import Any

import msgspec
from starlette.requests import Request

from api.errors import BadRequest, TooMuch, Unprocessable, short
from model import rows
from model.card import Card, Value
from model.errors import InvalidRow
from streams.events import Row, TableRow, TaskId, new_id

LONGEST_WAIT = 60  # seconds


class NumericTask(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /tasks` for a model of numbers only: `X` has shape (rows, features)."""

    X: list[Row]
    id: TaskId | None = None
    model: str | None = None


class MixedTask(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /tasks` for a model with text or missing values."""

    X: list[TableRow]
    id: TaskId | None = None
    model: str | None = None


class Question(msgspec.Struct):
    """A task that may be published; `chosen`: the client chose its id."""

    id: str
    X: list[list[Value]]
    model: str | None
    chosen: bool


def parse(data: bytes, card: Card, max_rows: int) -> Question:
    """The task in a body, with an id.

    Raises BadRequest for what is no JSON, TooMuch above `max_rows` rows, and Unprocessable,
    which names the field, for what is no question for the model.
    """
    kind: Any = NumericTask if card.numeric else MixedTask
    try:
        task: NumericTask | MixedTask = msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as e:
        raise Unprocessable(short(str(e))) from e
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise BadRequest(f"not JSON: {e}") from e
    except RecursionError as e:
        raise BadRequest("nested too deep") from e
    if task.model not in (None, card.name, card.id):
        raise Unprocessable(f"$.model: this pipeline serves {card.id}")
    if not task.X:
        raise Unprocessable("$.X: no rows")
    if len(task.X) > max_rows:
        raise TooMuch(f"$.X: {len(task.X)} rows are more than the limit of {max_rows}")
    X: Any = task.X
    try:
        rows.check(card, X)
    except InvalidRow as e:
        raise Unprocessable(str(e)) from e
    return Question(task.id or new_id(), X, task.model, task.id is not None)


def wait_wanted(request: Request) -> int | None:
    """The seconds of `Prefer: wait=…` (RFC 7240), at most LONGEST_WAIT, or None."""
    for header in request.headers.getlist("prefer"):
        for preference in header.split(","):
            name, _, value = preference.partition(";")[0].partition("=")
            value = value.strip().strip('"')
            if name.strip().lower() == "wait" and value.isdecimal() and len(value) < 10:
                return min(int(value), LONGEST_WAIT)
    return None
