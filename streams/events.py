"""The message contract: what is asked (`Task`) and what is answered (`Result`), JSON on the wire.

Both are keyed by the task's id, a lower-case UUID4 of 36 characters, as the record's key.
"""

from array import array
from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from typing import Annotated, Any, Literal, NamedTuple
from uuid import uuid4

import msgspec
from msgspec import Meta, Struct
from xxhash import xxh3_64_hexdigest

_UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

TaskId = Annotated[
    str,
    # The length, because Python's `$` also matches before a newline at the end.
    Meta(pattern=f"^{_UUID4}$", max_length=36, description="lower-case UUID4"),
]
# In the schema alike, but checked by `are_ids` and `are_digests` for a whole chunk at once.
UncheckedTaskId = Annotated[
    str, Meta(description="lower-case UUID4", extra_json_schema={"pattern": f"^{_UUID4}$"})
]
UncheckedDigest = Annotated[
    str, Meta(description="XXH3-64 of X", extra_json_schema={"pattern": "^[0-9a-f]{16}$"})
]
Label = str | int | float | bool
Row = list[float]
TableRow = list[float | str | None]


class Task(Struct, gc=False, kw_only=True, omit_defaults=True):
    """A question to a model with numeric features only: `X` has shape (rows, features)."""

    v: Literal[1]
    id: UncheckedTaskId
    X: list[Row]
    at: float  # when it was asked, seconds since the epoch by the asker's clock
    model: str | None = None  # None: the pipeline's default model


class TableTask(Struct, gc=False, kw_only=True, omit_defaults=True):
    """A question to a model with text columns or missing values."""

    v: Literal[1]
    id: UncheckedTaskId
    X: list[TableRow]
    at: float
    model: str | None = None


class Position(Struct, gc=False, frozen=True):
    """Where the task stands in the topic `tasks`."""

    partition: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Timings(Struct, gc=False, frozen=True):
    """Milliseconds: `queue` from the asker's clock to the worker's, `infer` for its chunk."""

    queue: float
    infer: float


class Failure(Struct, gc=False, frozen=True):
    """Why a task that could be read has no labels. `code` is stable, `message` is for people."""

    code: str
    message: str


class Result(Struct, gc=False, kw_only=True, omit_defaults=True):
    """The answer to one task: `y` with one label (or number) per row, or `error`.

    `proba` has shape (rows, classes) in the order of the card's classes; a regressor has none.
    `input` tells two tasks of one id apart: see `input_digest`. A task whose rows could not be
    read has none. What comes from outside is to be read with `decode_result`.
    """

    v: Literal[1]
    id: UncheckedTaskId
    y: list[Label] | None = None
    proba: list[list[float]] | None = None
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
    """Whether every one of `texts` can be a task id.

    Looks at all of them as one string: its n-th characters are every 36th. A regular
    expression for each would be two thirds of a task's decoding time.
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


def are_digests(texts: Sequence[str]) -> bool:
    """Whether every one of `texts` can be an input's digest."""
    if not set(map(len, texts)) <= {16}:
        return False
    return not "".join(texts).encode().translate(None, b"0123456789abcdef")


digest_bytes = xxh3_64_hexdigest


def input_digest(X: Sequence[Sequence[Any]]) -> str:
    """XXH3-64 of a task's rows, 16 hex digits: of their numbers as 64-bit floats in row-major
    order, or of their JSON where a row has text or a missing value."""
    try:
        return digest_bytes(array("d", chain.from_iterable(X)))
    except TypeError:
        numbers = (int, float)
        rows = [[float(v) if isinstance(v, numbers) else v for v in row] for row in X]
        return digest_bytes(encode(rows))


_encoder = msgspec.json.Encoder()
encode, encode_lines = _encoder.encode, _encoder.encode_lines
_decode_result = msgspec.json.Decoder(Result).decode
_decode_results = msgspec.json.Decoder(list[Result]).decode
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
RESULT_START = b'{"v":1,"id":"'  # as `encode` writes it
_FIELDS_OF_ALL = 10  # of a result, its task and its timings


def _check(results: Sequence[Result]) -> None:
    if not are_ids([r.id for r in results]):
        raise msgspec.ValidationError("an id is no lower-case UUID4 - at `$.id`")
    if not are_digests([r.input for r in results if r.input is not None]):
        raise msgspec.ValidationError("not 16 hex digits - at `$.input`")
    if [r.y is None for r in results] != [r.error is not None for r in results]:
        raise msgspec.ValidationError("it must have either y or error")


def decode_result(value: bytes) -> Result:
    """The result in a record's value; raises one of DECODE_ERRORS if it is none."""
    result = _decode_result(value)
    _check((result,))
    return result


def decode_results(values: Sequence[bytes]) -> list[Result] | None:
    """The result in each of the values, by one decode for all: half of the cost of one for each.

    None if any needs a look of its own. Otherwise all readers of JSON see in each value the
    same result: it has no field twice, none that is unknown and no name in escapes, because
    there are just as many colons as known fields and not one backslash. So a `{"v"` within
    another value would be a syntax error or of a wrong type, and no value passed for two or
    for a part of one, as `{…},{…}` would.
    """
    joined = b",".join(values)
    starts = {value[: len(RESULT_START)] for value in values}
    if b"\\" in joined or starts != {RESULT_START}:
        return None
    try:
        results = _decode_results(b"[%b]" % joined)
        _check(results)
    except DECODE_ERRORS:
        return None
    same = len(results) == len(values) and joined.count(b":") == _count_fields(results)
    return results if same else None


def _count_fields(results: Sequence[Result]) -> int:
    """The fields of results on the wire, those of their parts included."""
    inputs, probas = ([r.input for r in results], [r.proba for r in results])
    failed = len(results) - [r.error for r in results].count(None)
    optional = 2 * len(results) - inputs.count(None) - probas.count(None)
    # Either `y`, or `error` with a code and a message.
    return (_FIELDS_OF_ALL + 1) * len(results) + optional + 2 * failed


class Answered(NamedTuple):
    """Results with labels of one chunk, as columns of equal length. `ids`: valid task ids."""

    ids: Sequence[bytes]
    y: Sequence[Sequence[Label]]
    proba: Sequence[Sequence[Sequence[float]]] | None  # None: the model has none
    input: Sequence[str]
    offsets: Sequence[int]
    queue_ms: Sequence[float]


def encode_answered(
    columns: Answered, partition: int, model: str, worker: str, infer_ms: float
) -> list[bytes]:
    """Byte for byte what `encode` gives for each row as a `Result`, at two thirds of the cost:
    a column is one call, what all rows have in common is encoded once."""
    ids, y, proba, digests, offsets, queue_ms = columns
    pieces: list[Iterable[bytes]] = [repeat(b'{"v":1,"id":"'), ids, repeat(b'","y":'), _lines(y)]
    if proba is not None:
        pieces += [repeat(b',"proba":'), _lines(proba)]
    of_all = b',"model":%b,"worker":%b,"task":{"partition":%d,"offset":' % (
        encode(model), encode(worker), partition,
    )  # fmt: skip
    pieces += [
        repeat(b',"input":'), _lines(digests),
        repeat(of_all), _lines(offsets),
        repeat(b'},"ms":{"queue":'), _lines(queue_ms),
        repeat(b',"infer":%b}}' % encode(infer_ms)),
    ]  # fmt: skip
    return list(map(b"".join, zip(*pieces)))  # noqa: B905 - what repeats has no end


def _lines(values: Sequence[Any]) -> list[bytes]:
    """The JSON of each value, by one call and one split: JSON has no raw newline."""
    return encode_lines(list(values)).splitlines()
