"""The message contract: `Task` and `Result`, JSON on the wire.

Both are keyed by the task's id, a lower-case UUID4 of 36 characters, as the record's key.
"""

from collections.abc import Sequence
from typing import Annotated, Literal
from uuid import uuid4

from msgspec import Meta, Struct

from model.errors import InputWarning

_UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

TaskId = Annotated[
    str,
    # The length, because Python's `$` also matches before a newline at the end.
    Meta(pattern=f"^{_UUID4}$", max_length=36, description="lower-case UUID4"),
]
# The same in the schema, but checked by `are_ids` and `are_digests` for a whole chunk at once.
UncheckedTaskId = Annotated[
    str, Meta(description="lower-case UUID4", extra_json_schema={"pattern": f"^{_UUID4}$"})
]
UncheckedDigest = Annotated[
    str, Meta(description="XXH3-64 of X", extra_json_schema={"pattern": "^[0-9a-f]{16}$"})
]
ModelReference = Annotated[
    str,
    Meta(
        description="the model by `name`, or `name@version` with a number or a digest; "
        "without one the pipeline's default"
    ),
]
Label = str | int | float | bool
Row = list[float]
TableRow = list[float | str | None]
BooleanRow = list[bool | float | str | None]


class Task(Struct, gc=False, kw_only=True, omit_defaults=True):
    """A task for a model with numeric features only: `X` has shape (rows, features)."""

    v: Literal[1]
    id: UncheckedTaskId
    X: list[Row]
    at: float  # when it was created, seconds since the epoch by the client's clock
    model: ModelReference | None = None


class TableTask(Struct, gc=False, kw_only=True, omit_defaults=True):
    """A task for a model with text columns or missing values."""

    v: Literal[1]
    id: UncheckedTaskId
    X: list[TableRow]
    at: float
    model: ModelReference | None = None


class BooleanTask(Struct, gc=False, kw_only=True, omit_defaults=True):
    """A task for a model with a boolean column, whatever its other columns."""

    v: Literal[1]
    id: UncheckedTaskId
    X: list[BooleanRow]
    at: float
    model: ModelReference | None = None


class Position(Struct, gc=False, frozen=True):
    """The task's position in the topic `tasks`."""

    partition: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Timings(Struct, gc=False, frozen=True):
    """Milliseconds: `queue` from the client's clock to the worker's, `infer` for its chunk."""

    queue: float
    infer: float


class Failure(Struct, gc=False, frozen=True):
    """Why a task that could be read has no labels. `code` is stable, `message` is for people."""

    code: str
    message: str


class Result(Struct, gc=False, kw_only=True, omit_defaults=True):
    """The result of one task: `y` with one label (or number) per row, or `error`.

    `proba` has shape (rows, classes) in the order of the card's classes; a regressor has none.
    `score` has one number per row: an outlier detector's, below 0 where `y` is -1, an outlier.
    `warnings` are about values unlike those of the training data, one for each feature of them.
    `input` is the digest of the task's rows, which differs between two tasks with one id; it is
    missing if the rows could not be read. Decode a record's value with `decode_result`.
    """

    v: Literal[1]
    id: UncheckedTaskId
    y: list[Label] | None = None
    proba: list[list[float]] | None = None
    score: list[float] | None = None
    warnings: list[InputWarning] | None = None
    error: Failure | None = None
    input: UncheckedDigest | None = None
    model: str
    worker: str
    task: Position
    ms: Timings


def new_id() -> str:
    """A fresh task id."""
    return str(uuid4())


def is_id(text: str) -> bool:
    """Whether `text` can be a task id."""
    return are_ids((text,))


def are_ids(texts: Sequence[str]) -> bool:
    """Whether all `texts` can be task ids.

    Looks at all of them as one string, in which every 36th character is the n-th of an id. A
    regular expression for each would take two thirds of a task's decoding time.
    """
    count = len(texts)
    if set(map(len, texts)) - {36}:
        return False
    try:
        joined = "".join(texts).encode("ascii")
    except UnicodeEncodeError:
        return False
    dashes = b"-" * count
    return (
        all(joined[n::36] == dashes for n in (8, 13, 18, 23))
        and joined.count(b"-") == 4 * count
        and joined[14::36] == b"4" * count
        and not joined[19::36].translate(None, b"89ab")
        and not joined.translate(None, b"0123456789abcdef-")
    )
