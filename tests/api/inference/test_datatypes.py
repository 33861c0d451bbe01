"""Binary tensor data, by the text of its extension."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import BadRequest
from api.inference.datatypes import BYTES, DATATYPES, from_binary, to_binary


@pytest.mark.parametrize("name", [n for n in DATATYPES if n not in (BYTES, "BOOL")])
def test_numbers_are_little_endian_in_their_native_size(name: str) -> None:
    code = {"UINT": "BHIQ", "INT": "bhiq", "FP": "?efd"}[name.rstrip("0123456789")]
    size = int(name.lstrip("UINTFP")) // 8
    packed = struct.pack(f"<3{code[size.bit_length() - 1]}", 1, 2, 100)
    assert len(packed) == 3 * size
    assert from_binary(name, memoryview(packed)).tolist() == [1, 2, 100]


def test_a_bool_is_a_byte_of_0_or_1() -> None:
    assert from_binary("BOOL", memoryview(b"\1\0\1")).tolist() == [1, 0, 1]
    with pytest.raises(BadRequest, match="a BOOL must be 0 or 1"):
        from_binary("BOOL", memoryview(b"\2"))


def test_a_text_is_its_length_and_its_bytes() -> None:
    data = b"\x03\0\0\0red\0\0\0\0\x02\0\0\0\xc3\xa4"
    assert from_binary(BYTES, memoryview(data)).tolist() == ["red", "", "ä"]
    assert to_binary(["red", "", "ä"], BYTES) == data


@given(st.lists(st.text()))
def test_texts_come_back(texts: list[str]) -> None:
    assert from_binary(BYTES, memoryview(to_binary(texts, BYTES))).tolist() == texts


@given(st.lists(st.floats(allow_nan=False)))
def test_float_outputs_come_back(numbers: list[float]) -> None:
    assert from_binary("FP64", memoryview(to_binary(numbers, "FP64"))).tolist() == numbers


@pytest.mark.parametrize(
    ("name", "data", "fault"),
    [
        ("FP32", b"\0" * 5, "5 bytes are not a whole number of FP32 values"),
        ("INT64", b"\0", "1 bytes are not a whole number of INT64 values"),
        (BYTES, b"\1\0\0", "the length of a text is cut short"),
        (BYTES, b"\4\0\0\0red", "a text is cut short"),
        (BYTES, b"\xff\xff\xff\xffred", "a text is cut short"),
        (BYTES, b"\1\0\0\0\xff", "a text is not UTF-8"),
    ],
)
def test_malformed_binary_data_is_refused(name: str, data: bytes, fault: str) -> None:
    with pytest.raises(BadRequest, match=fault):
        from_binary(name, memoryview(data))


@given(st.sampled_from(sorted(DATATYPES)), st.binary())
def test_any_bytes_are_an_array_or_an_error(name: str, data: bytes) -> None:
    try:
        array: Any = from_binary(name, memoryview(data))
    except BadRequest:
        return
    assert isinstance(array, np.ndarray)
    assert array.ndim == 1
