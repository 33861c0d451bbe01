"""The protocol's datatypes: the data of a tensor, in JSON or binary, as an array.

Source of the binary form: the binary tensor data extension of KServe and Triton
(extension_binary_data.md): little-endian, row-major, without padding. An element of BYTES is its
length as a 4-byte unsigned integer, followed by its bytes.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from api.errors import BadRequest
from model.predict import Array

BYTES = "BYTES"
# The elements of a tensor's data as JSON Schema.
VALUE = {"anyOf": [{"type": kind} for kind in ("number", "string", "boolean", "null")]}
NESTED_VALUE = {"anyOf": [*VALUE["anyOf"], {"type": "array", "items": VALUE}]}
_LENGTH = struct.Struct("<I")


class Decoders(NamedTuple):
    """Readers of JSON data, flat or nested one deep."""

    flat: msgspec.json.Decoder[Any]
    nested: msgspec.json.Decoder[Any]


class Datatype(NamedTuple):
    """How to read a datatype. `nullable` reads null too, where the datatype can say missing."""

    element: type
    strict: Decoders
    nullable: Decoders
    array: np.dtype[Any]  # of the data from JSON
    binary: np.dtype[Any]  # of the data as bytes; BYTES has elements of unequal length

    def holds(self, value: Any) -> bool:
        """Whether a value read from JSON is one of this datatype, in its range."""
        try:
            np.array(msgspec.convert(value, self.element), self.array)
        except (msgspec.ValidationError, OverflowError):
            return False
        return True


def _decoders(element: Any) -> Decoders:
    flat: Any = list[element]
    nested: Any = list[flat]
    return Decoders(msgspec.json.Decoder(flat), msgspec.json.Decoder(nested))


def _datatype(element: Any, array: str, binary: str) -> Datatype:
    strict = _decoders(element)
    nullable = strict if element in (int, bool) else _decoders(element | None)
    return Datatype(element, strict, nullable, np.dtype(array), np.dtype(binary))


DATATYPES = {
    "BOOL": _datatype(bool, "uint8", "<u1"),
    **{f"UINT{bits}": _datatype(int, f"uint{bits}", f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": _datatype(int, f"int{bits}", f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    # JSON carries decimal text: rounding 5.1 to fewer than 64 bits would ask about another row
    # than a task with the same text does.
    **{f"FP{bits}": _datatype(float, "float64", f"<f{bits // 8}") for bits in (16, 32, 64)},
    BYTES: _datatype(str, "object", "object"),
}


def from_binary(name: str, data: memoryview) -> Array:
    """The elements of binary data of the datatype `name`, shape (elements,).

    Texts are str. Numbers have their own dtype, and may be NaN or infinite. Raises BadRequest.
    """
    if name == BYTES:
        return np.array(_texts(data), dtype=object)
    dtype = DATATYPES[name].binary
    if len(data) % dtype.itemsize:
        raise BadRequest(f"{len(data)} bytes are not a whole number of {name} values")
    array = np.frombuffer(data, dtype)
    if name == "BOOL" and (array > 1).any():
        raise BadRequest("a BOOL must be 0 or 1")
    return array


def _texts(data: memoryview) -> list[str]:
    texts, start, end = [], 0, len(data)
    while start < end:
        if end - start < _LENGTH.size:
            raise BadRequest("the length of a text is cut short")
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        if length > end - start:
            raise BadRequest("a text is cut short")
        try:
            texts.append(str(data[start : start + length], "utf-8"))
        except UnicodeDecodeError as e:
            raise BadRequest("a text is not UTF-8") from e
        start += length
    return texts


def to_binary(values: Sequence[Any], name: str) -> bytes:
    """The binary data of an output: texts for BYTES, otherwise numbers or booleans."""
    if name == BYTES:
        # Labels repeat, so each is encoded once.
        encoded = {value: _with_length(value) for value in set(values)}
        return b"".join([encoded[value] for value in values])
    return np.asarray(values, dtype=DATATYPES[name].binary).tobytes()


def _with_length(text: str) -> bytes:
    data = text.encode()
    return _LENGTH.pack(len(data)) + data
