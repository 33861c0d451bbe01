"""The tensors of an inference request as rows for a model.

Faults of a tensor (names, shape, datatype, size of its data) are named here; whether the values
are valid rows for the model, `model.rows` decides.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta, Raw, Struct, field

from api.errors import BadRequest, quote
from api.inference.datatypes import BYTES, DATATYPES, NESTED_VALUE, from_binary
from model import rows
from model.card import Card, Feature
from model.errors import InvalidRow
from model.predict import Array, matrix
from model.values.sentences import place_of

# No body holds as many; a number in JSON may have any length, and an answer may repeat this one.
Size = Annotated[int, Meta(ge=0, le=2**31)]


class InputParameters(Struct):
    """Parameters of an input; `binary_data_size` in bytes."""

    binary_data_size: Size | None = None


NO_DATA = Raw()  # not in the JSON: the tensor's bytes follow it


class InputTensor(Struct):
    """A tensor of a request; `data` is nested like `shape`, or flat in row-major order."""

    name: str
    shape: Annotated[list[Size], Meta(min_length=1, max_length=2)]
    datatype: str
    # By a factory, because a JSON Schema cannot hold a default of this type.
    data: Annotated[Raw, Meta(extra_json_schema={"type": "array", "items": NESTED_VALUE})] = field(
        default_factory=lambda: NO_DATA
    )
    parameters: InputParameters | None = None

    @property
    def binary_size(self) -> int | None:
        """How many bytes after the JSON are its data, or None for data in JSON."""
        return self.parameters.binary_data_size if self.parameters else None


Binary = Mapping[str, memoryview]  # by the name of its tensor

_AS_TASKS = {"FP16", "FP32", "FP64", BYTES}  # their values are floats and texts already
_NESTED = re.compile(rb"\s*\[\s*\[")
_INDICES = re.compile(r" - at `\$\[(\d+)\](?:\[(\d+)\])?`$")


class Columns(NamedTuple):
    """A tensor and the features that its columns are, one or all; `binary` None: data in JSON."""

    tensor: InputTensor
    features: Sequence[Feature]
    binary: memoryview | None

    @property
    def place(self) -> str:
        """The tensor, for the beginning of a sentence."""
        return f"input {quote(self.tensor.name)}"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.tensor.shape[0], len(self.features)

    @property
    def nullable(self) -> bool:
        """Whether a value may be missing."""
        return any(feature.nullable for feature in self.features)

    @property
    def data(self) -> memoryview:
        """The data in JSON; raises BadRequest if there is none."""
        if self.tensor.data is NO_DATA:
            raise BadRequest(f"{self.place} has no data")
        return memoryview(self.tensor.data)

    @property
    def is_nested(self) -> bool:
        """Whether the data in JSON is a list of lists."""
        return _NESTED.match(self.data) is not None

    def wrong_shape(self) -> BadRequest:
        """The error of data that does not fill the shape."""
        return BadRequest(f"{self.place}: the data does not have the shape {self.tensor.shape}")


def to_matrix(inputs: Sequence[InputTensor], binary: Binary, card: Card) -> Array:
    """One tensor of shape (rows, features), or one of shape (rows,) per feature, as rows.

    Returns float64 of shape (rows, features), or object for a model with text or missing
    values. Raises BadRequest, which has a code if a value is not valid for the model.
    """
    columns = _columns(inputs, binary, card)
    try:
        parts = [_typed(each) for each in columns]
    except BadRequest:
        _check(card, _as_sent(columns))  # a value that no tensor may have is the better reason
        raise
    X = parts[0] if len(parts) == 1 else np.hstack(parts)
    if not card.numeric:
        values = X.astype(object, copy=False).tolist()
        _check(card, values)
        X = matrix(values, numeric=False)
        return X if {each.datatype for each in inputs} <= _AS_TASKS else _as_floats(X, card)
    with _refused():
        rows.check_array(card.features, X)
    return X.astype(np.float64, copy=False)


def _as_floats(X: Array, card: Card) -> Array:
    """All numbers as floats, as tasks have them, whatever the datatypes of the tensors."""
    for n, feature in enumerate(card.features):
        if not feature.is_text:
            X[:, n] = X[:, n].astype(np.float64)
    return X


def _columns(inputs: Sequence[InputTensor], binary: Binary, card: Card) -> list[Columns]:
    """The tensors in the order of the features."""
    for tensor in inputs:
        if tensor.datatype not in DATATYPES:
            name, kind = quote(tensor.name), quote(tensor.datatype)
            raise BadRequest(f"input {name}: {kind} is not one of: {', '.join(DATATYPES)}")
    if len(inputs) == 1 and len(inputs[0].shape) == 2:
        [tensor] = inputs
        with _refused():
            rows.check_width(card, tensor.shape[1], place_of(0, tensor.shape[0]))
        return [Columns(tensor, card.features, binary.get(tensor.name))]
    given = {tensor.name: tensor for tensor in inputs}
    if len(given) != len(inputs):
        raise BadRequest("two inputs have the same name")
    if given.keys() != set(card.names):
        raise BadRequest(
            f"send one tensor of shape [rows, {len(card.features)}], "
            f"or one of shape [rows] for each of {', '.join(card.names)}"
        )
    for tensor in inputs:
        if tensor.shape[1:] not in ([], [1]):
            raise BadRequest(f"{tensor.name}: the shape must be [rows] or [rows, 1]")
    if len({tensor.shape[0] for tensor in inputs}) > 1:
        raise BadRequest("the inputs have different numbers of rows")
    return [Columns(given[f.name], [f], binary.get(f.name)) for f in card.features]


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except InvalidRow as e:
        raise BadRequest(str(e), e.code) from e


def _check(card: Card, values: list[Any]) -> None:
    with _refused():
        rows.check(card, values)


def _typed(columns: Columns) -> Array:
    """The data, shape (rows, features), if it has the tensor's shape and datatype.

    An array of numbers, or of objects where None is a missing value. Raises BadRequest.
    """
    datatype = columns.tensor.datatype
    for feature in columns.features:
        if feature.is_text != (datatype == BYTES):
            wanted = (
                f"{feature.name} is {'an' if feature.type == 'integer' else 'a'} {feature.type}"
            )
            raise BadRequest(f"{columns.place}: {wanted}, the datatype is {datatype}")
    if columns.binary is not None:
        return _from_binary(columns.binary, columns)
    return _from_json(columns)


def _from_json(columns: Columns) -> Array:
    datatype, is_nested = DATATYPES[columns.tensor.datatype], columns.is_nested
    decoders, dtype = datatype.strict, datatype.array
    if columns.nullable and datatype.nullable is not datatype.strict:
        decoders, dtype = datatype.nullable, np.dtype(object)  # floats would make NaN of None
    try:
        values = (decoders.nested if is_nested else decoders.flat).decode(columns.data)
        array = np.array(values, dtype)
    except msgspec.DecodeError as e:
        raise _wrong_datatype(columns, str(e)) from e
    except OverflowError as e:
        kind = columns.tensor.datatype
        raise BadRequest(f"{columns.place}: a number does not fit into {kind}") from e
    except ValueError as e:  # rows of different lengths
        raise columns.wrong_shape() from e
    if array.shape != columns.shape if is_nested else array.size != math.prod(columns.shape):
        raise columns.wrong_shape()
    return array.reshape(columns.shape)


def _from_binary(data: memoryview, columns: Columns) -> Array:
    """Binary data, which has no null: a missing number is NaN."""
    try:
        array = from_binary(columns.tensor.datatype, data)
    except BadRequest as e:
        raise BadRequest(f"{columns.place}: {e}") from e
    if array.size != math.prod(columns.shape):
        raise columns.wrong_shape()
    array = array.reshape(columns.shape)
    if array.dtype.kind == "f" and columns.nullable:
        missing = np.isnan(array) & [feature.nullable for feature in columns.features]
        array = array.astype(object)
        array[missing] = None
    return array


def _wrong_datatype(columns: Columns, message: str) -> BadRequest:
    """The error of data that a decoder refused with a message, which may have the position."""
    where, found = "", _INDICES.search(message)
    if found is not None:
        first, second = int(found[1]), found[2]
        row, column = divmod(first, columns.shape[1]) if second is None else (first, int(second))
        if column < columns.shape[1]:
            feature = columns.features[column].name
            where = f", {place_of(row, columns.shape[0])}{feature}"
    return BadRequest(
        f"{columns.place}{where}: the value is not of datatype {columns.tensor.datatype}"
    )


def _as_sent(columns: Sequence[Columns]) -> list[Any]:
    """The rows of the tensors as they were sent, values of any type; raises BadRequest."""
    parts = [_rows_as_sent(each) for each in columns]
    if len(parts) == 1:
        return parts[0]
    for each, part in zip(columns, parts, strict=True):
        if not all(isinstance(row, list) and len(row) == 1 for row in part):
            raise each.wrong_shape()
    return [list(chain.from_iterable(row)) for row in zip(*parts, strict=True)]


def _rows_as_sent(columns: Columns) -> list[Any]:
    if columns.binary is not None:
        sent: list[Any] = _from_binary(columns.binary, columns).tolist()
        return sent
    values, (count, width) = _any_json(columns), columns.shape
    if not isinstance(values, list):
        raise BadRequest(f"{columns.place}: the data must be a list")
    if columns.tensor.datatype == "BOOL":
        values = _without_bools(values)
    if len(values) == count and columns.is_nested:
        return values
    if len(values) != count * width:
        raise columns.wrong_shape()
    return [values[start : start + width] for start in range(0, len(values), width)]


def _any_json(columns: Columns) -> Any:
    """The data as Python's json reads it, which takes NaN, Infinity and numbers of any size."""
    try:
        return json.loads(str(columns.data, "utf-8"), parse_int=_integer)
    except UnicodeDecodeError as e:
        raise BadRequest(f"{columns.place}: a text is not UTF-8") from e
    except (ValueError, RecursionError) as e:
        raise BadRequest(f"{columns.place}: the data cannot be read") from e


def _integer(digits: str) -> float:
    try:
        return int(digits)
    except ValueError:  # more digits than Python converts
        return math.inf


def _without_bools(values: list[Any]) -> list[Any]:
    """True and false as 1 and 0, which they are in a tensor of BOOL."""
    return [
        _without_bools(v) if isinstance(v, list) else int(v) if isinstance(v, bool) else v
        for v in values
    ]
