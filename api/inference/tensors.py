"""The tensors of an inference request as rows for a model."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Raw, Struct, field

from api.errors import BadRequest, quote
from api.inference.datatypes import BYTES, DATATYPES, Array, DataError, from_binary
from model import rows as valid
from model.card import Card, Feature
from model.errors import InvalidRow

# No body holds as much; JSON's numbers have no end, and an answer may repeat this one.
Size = Annotated[int, Meta(ge=0, le=2**31)]


class InputParameters(Struct):
    """What an input may say of itself; `binary_data_size` in bytes."""

    binary_data_size: Size | None = None


NO_DATA = Raw()  # not in the JSON: the tensor's bytes follow it


class InputTensor(Struct):
    """A tensor of a request; `data` is nested like `shape`, or flat in row-major order."""

    name: str
    shape: Annotated[list[Size], Meta(min_length=1, max_length=2)]
    datatype: str
    # By a factory, because a schema cannot tell a default of this type.
    data: Annotated[Raw, Meta(extra_json_schema={"type": "array"})] = field(
        default_factory=lambda: NO_DATA
    )
    parameters: InputParameters | None = None

    @property
    def binary_size(self) -> int | None:
        """How many bytes after the JSON are its data, or None for data in JSON."""
        return self.parameters.binary_data_size if self.parameters else None


Binary = Mapping[str, memoryview]  # by the name of its tensor

_NESTED = re.compile(rb"\s*\[\s*\[")
_INDICES = re.compile(r" - at `\$\[(\d+)\](?:\[(\d+)\])?`$")


def rows(inputs: Sequence[InputTensor], binary: Binary, card: Card) -> Array:
    """One tensor of shape (rows, features), or one of shape (rows,) per feature, as rows.

    Returns float64 of shape (rows, features), or object for a model with text or missing
    values. Raises BadRequest, which names the row and the feature where there is one.
    """
    if len(inputs) == 1 and len(inputs[0].shape) == 2:
        array = _matrix(inputs[0], binary, card)
    else:
        columns = _columns(inputs, binary, card)
        if len({len(column) for column in columns}) > 1:
            raise BadRequest("the inputs have different numbers of rows")
        array = np.column_stack(columns)
    return array.astype(np.float64 if card.numeric else object, copy=False)


def _matrix(tensor: InputTensor, binary: Binary, card: Card) -> Array:
    width = len(card.features)
    if tensor.shape[1] != width:
        raise BadRequest(f"got {tensor.shape[1]} features, the model wants {width}")
    for feature in card.features:
        _check_type(tensor, feature)
    return _array(tensor, binary, card.features)


def _columns(inputs: Sequence[InputTensor], binary: Binary, card: Card) -> list[Array]:
    given = {tensor.name: tensor for tensor in inputs}
    if len(given) != len(inputs):
        raise BadRequest("two inputs have the same name")
    if given.keys() != set(card.names):
        raise BadRequest(
            f"send one tensor of shape [rows, {len(card.features)}], "
            f"or one of shape [rows] for each of {', '.join(card.names)}"
        )
    return [_column(given[feature.name], binary, feature) for feature in card.features]


def _column(tensor: InputTensor, binary: Binary, feature: Feature) -> Array:
    if tensor.shape[1:] not in ([], [1]):
        raise BadRequest(f"{feature.name}: the shape must be [rows] or [rows, 1]")
    _check_type(tensor, feature)
    return _array(tensor, binary, [feature])[:, 0]


def _check_type(tensor: InputTensor, feature: Feature) -> None:
    if (feature.type == "text") != (tensor.datatype == BYTES):
        named = f"{quote(tensor.name)} is {quote(tensor.datatype)}"
        raise BadRequest(f"{feature.name} is a {feature.type}, the tensor {named}")


def _array(tensor: InputTensor, binary: Binary, features: Sequence[Feature]) -> Array:
    """The tensor's data, shape (rows, features), each value checked to be one for its feature."""
    if tensor.datatype not in DATATYPES:
        kind, names = quote(tensor.datatype), ", ".join(DATATYPES)
        raise BadRequest(f"{_place(tensor)}: {kind} is none of the datatypes {names}")
    shape = (tensor.shape[0], len(features))
    nullable = any(feature.nullable for feature in features)
    data = binary.get(tensor.name)
    nested = False
    if data is None:
        nested = _NESTED.match(memoryview(tensor.data)) is not None
        array = _from_json(tensor, nested, nullable, features)
    else:
        array = _from_binary(tensor, data)
    if array.shape != shape if nested else array.size != shape[0] * shape[1]:
        raise BadRequest(f"{_place(tensor)}: the data has not the shape {tensor.shape}")
    array = array.reshape(shape)
    if tensor.datatype == BYTES:
        return _checked_texts(array, features)
    # JSON has no NaN, so without nulls there is nothing to find.
    if array.dtype.kind == "f" and (nullable or data is not None):
        _check_finite(array, features)
    return array


def _from_binary(tensor: InputTensor, data: memoryview) -> Array:
    try:
        return from_binary(tensor.datatype, data)
    except DataError as e:
        raise BadRequest(f"{_place(tensor)}: {e}") from e


def _from_json(
    tensor: InputTensor, nested: bool, nullable: bool, features: Sequence[Feature]
) -> Array:
    if tensor.data is NO_DATA:
        raise BadRequest(f"{_place(tensor)} has no data")
    datatype = DATATYPES[tensor.datatype]
    decoders = datatype.nullable if nullable else datatype.strict
    try:
        values = (decoders.nested if nested else decoders.flat).decode(tensor.data)
        return np.array(values, datatype.array)
    except msgspec.DecodeError as e:
        raise BadRequest(f"{_place(tensor)}, {_located(str(e), features)}") from e
    except UnicodeDecodeError as e:
        raise BadRequest(f"{_place(tensor)}: a text is not UTF-8") from e
    except OverflowError as e:
        raise BadRequest(f"{_place(tensor)}: a number does not fit into {tensor.datatype}") from e
    except ValueError as e:
        raise BadRequest(f"{_place(tensor)}: the rows have different lengths") from e


def _place(tensor: InputTensor) -> str:
    return f"input {quote(tensor.name)}"


def _checked_texts(array: Array, features: Sequence[Feature]) -> Array:
    for (row, column), text in np.ndenumerate(array):
        feature = features[column]
        try:
            valid.check_value(feature, text, valid.place_of(row, len(array)))
        except InvalidRow as e:
            raise BadRequest(str(e)) from e
        if text is None:
            array[row, column] = np.nan  # as `model.predict.matrix` tells a missing text
    return array


def _check_finite(array: Array, features: Sequence[Feature]) -> None:
    """A number that is not there is NaN, and only a nullable feature may lack it."""
    missing = np.isnan(array) & [feature.nullable for feature in features]
    for row, column in np.argwhere(~(np.isfinite(array) | missing))[:1]:
        name = features[column].name
        raise BadRequest(f"row {row}, {name}: the number is missing or not finite")


def _located(message: str, features: Sequence[Feature]) -> str:
    """A decoder's message with its position told as row and feature."""
    found = _INDICES.search(message)
    if found is None:
        return f"data: {message}"
    first, second = int(found[1]), found[2]
    row, column = divmod(first, len(features)) if second is None else (first, int(second))
    feature = f", {features[column].name}" if column < len(features) else ""
    return f"row {row}{feature}: {message[: found.start()]}"
