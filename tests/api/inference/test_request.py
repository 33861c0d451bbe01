"""Bodies of inference requests, without HTTP."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import BadRequest, RequestError, TooMuch
from api.inference.request import parse
from model.artifact import Loaded
from model.card import Card
from tests.api.inference.bodies import (
    DATA,
    binary,
    binary_tensor,
    refusal,
    request,
    tensor,
)


@pytest.fixture
def card(loaded: Loaded) -> Card:
    return loaded.card


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON: Input data was truncated"),
        (b"\xff", "not JSON: JSON is malformed: invalid character (byte 0)"),
        (b"[]", "not an inference request: Expected `object`, got `array`"),
        (b"[" * 100_000, "not an inference request: Expected `object`, got `array`"),
        (
            b'{"a":' + b"[" * 100_000,
            "not an inference request: nested too deep",
        ),
        (b"{}", "not an inference request: Object missing required field `inputs`"),
        (
            b'{"inputs":[]}',
            "not an inference request: Expected `array` of length >= 1 - at `$.inputs`",
        ),
    ],
)
def test_a_malformed_request_is_refused(card: Card, body: bytes, message: str) -> None:
    assert refusal(body, card) == message


def test_too_many_rows_are_refused_by_their_shape(card: Card) -> None:
    with pytest.raises(TooMuch, match="got 1000000000 rows, the limit is 10"):
        parse(request(tensor(shape=[1_000_000_000, 4])), card, 10)


@pytest.mark.parametrize("field", ["name", "datatype"])
def test_no_refusal_repeats_more_than_100_characters_of_the_request(card: Card, field: str) -> None:
    long = "y" * 5000
    message = refusal(request(tensor(shape=[2, 4], data=[1], **{field: long})), card)
    assert 0 < message.count("y") <= 110
    message = refusal(request(outputs=[{"name": long}]), card)
    assert message.count("y") <= 110


@pytest.mark.parametrize("shape", [[10**4000, 4], [2, 10**4000]])
def test_no_refusal_repeats_a_number_without_end(card: Card, shape: list[int]) -> None:
    assert len(refusal(request(tensor(shape=shape)), card)) < 200
    endless = request(binary_tensor(10**4000))
    assert len(refusal(endless, card)) < 200


def test_an_output_is_binary_if_it_or_else_the_request_says_so(loaded: Loaded) -> None:
    plain = {"name": "predict", "parameters": {"binary_data": False}}
    for fields, wanted in (
        ({}, {"predict": False, "predict_proba": False}),
        ({"parameters": {"binary_data_output": True}}, {"predict": True, "predict_proba": True}),
        (
            {"parameters": {"binary_data_output": True}, "outputs": [plain]},
            {"predict": False},
        ),
        (
            {"outputs": [{"name": "predict_proba", "parameters": {"binary_data": True}}, plain]},
            {"predict_proba": True, "predict": False},
        ),
    ):
        assert parse(request(**fields), loaded.card, 9).outputs == wanted


@pytest.mark.parametrize(
    ("changes", "data", "size", "message"),
    [
        ({}, DATA, None, "not JSON: "),
        ({}, DATA, 0, "the JSON cannot have 0 of the body's 168 bytes"),
        ({}, DATA, 999, "the JSON cannot have 999 of the body's 168 bytes"),
        ({}, DATA[:-1], -1, "input 'X': the body ends before its 64 bytes of binary data"),
        ({}, DATA + b"!", -1, "1 bytes after the JSON belong to no input"),
        ({"data": [1]}, DATA, -1, "input 'X' has both data and a binary_data_size"),
        ({"shape": [3, 4]}, DATA, -1, "input 'X': the data does not have the shape [3, 4]"),
        ({"datatype": "FP99"}, DATA, -1, "input 'X': 'FP99' is not one of: BOOL, UINT8"),
        ({"parameters": {"binary_data_size": -1}}, DATA, -1,
         "not an inference request: Expected `int` >= 0"),
        ({"parameters": {}}, b"", -1, "input 'X' has no data"),
    ],
)  # fmt: skip
def test_binary_data_that_does_not_fit_is_refused(
    card: Card, changes: dict[str, Any], data: bytes, size: int | None, message: str
) -> None:
    body, json_size = binary(binary_tensor(64, **changes), data=data)
    with pytest.raises(BadRequest) as caught:
        parse(body, card, 9, json_size if size == -1 else size)
    assert str(caught.value).startswith(message)


def test_a_binary_tensor_needs_the_header(card: Card) -> None:
    body = json.dumps({"inputs": [binary_tensor(0)]}).encode()
    message = "input 'X' is binary: send the header Inference-Header-Content-Length"
    assert refusal(body, card) == message


@given(
    st.lists(st.sampled_from(["FP32", "INT8", "BOOL", "BYTES", "FP64", "?"]), max_size=3),
    st.integers(-1, 200),
    st.binary(max_size=100),
)
def test_any_binary_request_is_parsed_or_refused(
    loaded: Loaded, datatypes: list[str], size: int, data: bytes
) -> None:
    tensors = [binary_tensor(len(data) // 2, datatype=datatype) for datatype in datatypes]
    body, json_size = binary(*tensors, data=data)
    for length in (size, json_size):
        try:
            parsed = parse(body, loaded.card, 9, length)
        except RequestError:
            continue
        assert np.isfinite(parsed.X).all()
