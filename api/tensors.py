"""The tensors of an inference request as rows for a model."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta, Raw, Struct

from api.errors import BadRequest, quote
from api.rows import fault
from model.card import Card

Array = np.ndarray[Any, Any]


class InputTensor(Struct):
    """A tensor of a request; `data` is nested like `shape`, or flat in row-major order."""

    name: str
    shape: Annotated[list[Annotated[int, Meta(ge=0)]], Meta(min_length=1, max_length=2)]
    datatype: str
    data: Raw


class _Datatype(NamedTuple):
    flat: msgspec.json.Decoder[Any]
    nested: msgspec.json.Decoder[Any]
    dtype: np.dtype[Any]


def _datatype(element: type, dtype: str) -> _Datatype:
    flat: Any = list[element]  # type: ignore[valid-type]
    nested: Any = list[flat]
    return _Datatype(msgspec.json.Decoder(flat), msgspec.json.Decoder(nested), np.dtype(dtype))


BYTES = "BYTES"
DATATYPES = {
    # JSON carries decimal text: rounding 5.1 to fewer than 64 bits would ask about another row
    # than a task with the same text does.
    **{f"FP{bits}": _datatype(float, "float64") for bits in (16, 32, 64)},
    **{f"INT{bits}": _datatype(int, f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": _datatype(int, f"uint{bits}") for bits in (8, 16, 32, 64)},
    BYTES: _datatype(str, "object"),
}
_NESTED = re.compile(rb"\s*\[\s*\[")
_INDICES = re.compile(r" - at `\$\[(\d+)\](?:\[(\d+)\])?`$")


def rows(inputs: Sequence[InputTensor], card: Card) -> Array:
    """One tensor of shape (rows, features), or one of shape (rows,) per feature, as rows.

    Returns float64 of shape (rows, features), or object for a model with text or missing
    values. Raises BadRequest, which names the row and the feature where there is one.
    """
    if len(inputs) == 1 and len(inputs[0].shape) == 2:
        array = _matrix(inputs[0], card)
    else:
        columns = _columns(inputs, card)
        if len({len(column) for column in columns}) > 1:
            raise BadRequest("the inputs have different numbers of rows")
        array = np.column_stack(columns)
    return array.astype(np.float64 if card.numeric else object, copy=False)


def _matrix(tensor: InputTensor, card: Card) -> Array:
    width = len(card.features)
    if tensor.shape[1] != width:
        raise BadRequest(f"got {tensor.shape[1]} features, the model wants {width}")
    for feature in card.features:
        if (feature.type == "text") != (tensor.datatype == BYTES):
            raise BadRequest(f"{feature.name} is a {feature.type}, the tensor {_named(tensor)}")
    return _array(tensor, card, 0, width)


def _columns(inputs: Sequence[InputTensor], card: Card) -> list[Array]:
    given = {tensor.name: tensor for tensor in inputs}
    if len(given) != len(inputs):
        raise BadRequest("two inputs have the same name")
    if given.keys() != set(card.names):
        raise BadRequest(
            f"send one tensor of shape [rows, {len(card.features)}], "
            f"or one of shape [rows] for each of {', '.join(card.names)}"
        )
    return [_column(given[name], card, i) for i, name in enumerate(card.names)]


def _column(tensor: InputTensor, card: Card, index: int) -> Array:
    feature = card.features[index]
    if tensor.shape[1:] not in ([], [1]):
        raise BadRequest(f"{feature.name}: the shape must be [rows] or [rows, 1]")
    if (feature.type == "text") != (tensor.datatype == BYTES):
        raise BadRequest(f"{feature.name} is a {feature.type}, the tensor {_named(tensor)}")
    return _array(tensor, card, index, 1)[:, 0]


def _named(tensor: InputTensor) -> str:
    return f"{quote(tensor.name)} is {quote(tensor.datatype)}"


def _array(tensor: InputTensor, card: Card, first: int, width: int) -> Array:
    """The tensor's data, shape (rows, width): the features from number `first` on."""
    shape = (tensor.shape[0], width)
    nested = _NESTED.match(memoryview(tensor.data)) is not None
    array = _decoded(tensor, nested, card.names[first : first + width])
    if array.shape != shape if nested else array.size != shape[0] * width:
        raise BadRequest(f"input {quote(tensor.name)}: the data has not the shape {tensor.shape}")
    array = array.reshape(shape)
    if tensor.datatype == BYTES:
        for (row, column), text in np.ndenumerate(array):
            feature = card.features[first + column]
            if message := fault(feature, text):
                raise BadRequest(f"row {row}, {feature.name}: {message}")
    return array


def _decoded(tensor: InputTensor, nested: bool, names: Sequence[str]) -> Array:
    datatype = DATATYPES.get(tensor.datatype)
    place = f"input {quote(tensor.name)}"
    if datatype is None:
        raise BadRequest(
            f"{place}: {quote(tensor.datatype)} is none of the datatypes {', '.join(DATATYPES)}"
        )
    try:
        values = (datatype.nested if nested else datatype.flat).decode(tensor.data)
        return np.array(values, datatype.dtype)
    except msgspec.DecodeError as e:
        raise BadRequest(f"{place}, {_located(str(e), names)}") from e
    except UnicodeDecodeError as e:
        raise BadRequest(f"{place}: a text is not UTF-8") from e
    except OverflowError as e:
        raise BadRequest(f"{place}: a number does not fit into {tensor.datatype}") from e
    except ValueError as e:
        raise BadRequest(f"{place}: the rows have different lengths") from e


def _located(message: str, names: Sequence[str]) -> str:
    """A decoder's message with its position told as row and feature."""
    found = _INDICES.search(message)
    if found is None:
        return f"data: {message}"
    first, second = int(found[1]), found[2]
    row, column = divmod(first, len(names)) if second is None else (first, int(second))
    feature = f", {names[column]}" if column < len(names) else ""
    return f"row {row}{feature}: {message[: found.start()]}"
