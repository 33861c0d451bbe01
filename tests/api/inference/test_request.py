"""The Open Inference Protocol's JSON, without HTTP."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from api.errors import BadRequest, RequestError, TooMuch
from api.inference.metadata import TensorMetadata, model_metadata
from api.inference.request import ParsedRequest, parse
from api.inference.response import InferenceResponse, OutputTensor, ResponseEncoder
from model.artifact import Loaded
from model.card import Card, Feature
from model.predict import Prediction, predict
from model.train import make_card

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 5.0, 2.0]]
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


@pytest.fixture
def card(loaded: Loaded) -> Card:
    return loaded.card


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "X", "shape": [2, 4], "datatype": "FP64", "data": ROWS, **changes}


def request(*tensors: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"inputs": tensors or [tensor()], **fields}).encode()


def response_to(parsed: ParsedRequest, prediction: Prediction, card: Card) -> InferenceResponse:
    """The response in JSON alone, decoded."""
    encoded = ResponseEncoder(card, "1").encode(parsed, prediction)
    assert encoded.json_size is None
    return msgspec.json.decode(encoded.body, type=InferenceResponse)


def columns() -> list[dict[str, Any]]:
    pairs = zip(NAMES, np.array(ROWS).T.tolist(), strict=True)
    return [tensor(name=n, shape=[2], data=values) for n, values in pairs]


def refusal(body: bytes, card: Card, max_rows: int = 100) -> str:
    with pytest.raises(RequestError) as caught:
        parse(body, card, max_rows)
    assert isinstance(caught.value, BadRequest)
    return str(caught.value)


def test_nested_and_flat_data_and_a_tensor_per_feature_are_the_same_rows(card: Card) -> None:
    flat = [value for row in ROWS for value in row]
    narrow = [{**c, "shape": [2, 1], "data": [[v] for v in c["data"]]} for c in columns()]
    for body in (
        request(),
        request(tensor(data=flat)),
        request(*columns()),
        request(*reversed(columns())),
        request(*narrow),
    ):
        parsed = parse(body, card, 100)
        assert parsed.X.tolist() == ROWS
        assert parsed.X.dtype == np.float64


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_decimal_numbers_keep_their_value_in_every_float_datatype(
    card: Card, datatype: str
) -> None:
    assert parse(request(tensor(datatype=datatype)), card, 9).X.tolist() == ROWS


@pytest.mark.parametrize(
    "datatype", ["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]
)
def test_integers_are_taken_within_their_range(card: Card, datatype: str) -> None:
    whole = tensor(shape=[1, 4], datatype=datatype, data=[5, 3, 1, 0])
    X = parse(request(whole), card, 9).X
    assert (X.tolist(), X.dtype) == ([[5.0, 3.0, 1.0, 0.0]], np.float64)
    outside = {**whole, "data": [5, 3, 1, 2**64]}
    assert refusal(request(outside), card) == f"input 'X': a number does not fit into {datatype}"


def test_a_response_has_every_output_and_echoes_the_id(loaded: Loaded) -> None:
    parsed = parse(request(id="42"), loaded.card, 9)
    prediction = predict(loaded.model, parsed.X)
    assert prediction.proba is not None
    assert response_to(parsed, prediction, loaded.card) == InferenceResponse(
        model_name="iris",
        model_version="1",
        outputs=[
            OutputTensor("predict", [2], "BYTES", ["setosa", "virginica"]),
            OutputTensor(
                "predict_proba", [2, 3], "FP64", [*prediction.proba[0], *prediction.proba[1]]
            ),
        ],
        id="42",
    )


def test_a_response_has_only_the_outputs_asked_for(loaded: Loaded) -> None:
    parsed = parse(request(outputs=[{"name": "predict"}]), loaded.card, 9)
    response = response_to(parsed, predict(loaded.model, parsed.X), loaded.card)
    assert response.outputs == [OutputTensor("predict", [2], "BYTES", ["setosa", "virginica"])]
    assert response.id is None


def test_a_regressor_answers_numbers_and_has_no_probabilities() -> None:
    model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    card = make_card("line", model, [Feature(name="x")])
    parsed = parse(request(tensor(name="x", shape=[2], data=[2, 3])), card, 9)
    response = response_to(parsed, predict(model, parsed.X), card)
    (output,) = response.outputs
    assert (output.name, output.shape, output.datatype) == ("predict", [2], "FP64")
    assert output.data == pytest.approx([5.0, 7.0])
    wants_proba = request(tensor(shape=[1, 1], data=[2]), outputs=[{"name": "predict_proba"}])
    assert refusal(wants_proba, card) == "no output 'predict_proba'; the outputs are predict"


def mixed_card() -> Card:
    return Card(
        name="mixed",
        kind="regressor",
        features=(
            Feature(name="colour", type="text", categories=("red", "blue")),
            Feature(name="size"),
        ),
        libraries={},
        sha256="0" * 64,
    )


def test_a_text_feature_is_a_tensor_of_bytes() -> None:
    colour = tensor(name="colour", shape=[2], datatype="BYTES", data=["red", "blue"])
    size = tensor(name="size", shape=[2], data=[1.5, 2.5])
    parsed = parse(request(colour, size), mixed_card(), 9)
    assert parsed.X.tolist() == [["red", 1.5], ["blue", 2.5]]
    strange = {**colour, "data": ["red", "x" * 500]}
    message = refusal(request(strange, size), mixed_card())
    assert message == "row 1, colour: the text is none of the allowed ones"
    assert model_metadata(mixed_card(), ["1"]).inputs == [
        TensorMetadata("colour", "BYTES", [-1]),
        TensorMetadata("size", "FP64", [-1]),
    ]


def test_class_names_are_text_whatever_their_type(card: Card) -> None:
    numbered = msgspec.structs.replace(card, classes=(0, 1))
    parsed = parse(request(outputs=[{"name": "predict"}]), numbered, 9)
    response = response_to(parsed, Prediction([0, 1], None), numbered)
    assert response.outputs[0].data == ["0", "1"]


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
def test_what_is_no_request_is_refused(card: Card, body: bytes, message: str) -> None:
    assert refusal(body, card) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [2, 5]}, "got 5 features, the model wants 4"),
        ({"shape": [3, 4]}, "input 'X': the data has not the shape [3, 4]"),
        ({"shape": [0, 4], "data": []}, "input 'X' has no rows"),
        ({"data": [1, 2]}, "input 'X': the data has not the shape [2, 4]"),
        ({"data": [[1, 2], [3]]}, "input 'X': the rows have different lengths"),
        ({"data": [[[1]]]}, "input 'X', row 0, sepal_length: Expected `float`, got `array`"),
        ({"data": {}}, "input 'X', data: Expected `array`, got `object`"),
        (
            {"data": [ROWS[0], [6, 3, "5", 2]]},
            "input 'X', row 1, petal_length: Expected `float`, got `str`",
        ),
        (
            {"data": [1, 2, 3, 4, 5, 6, True, 8]},
            "input 'X', row 1, petal_length: Expected `float`, got `bool`",
        ),
        (
            {"data": [ROWS[0], [6, float("nan"), 5, 2]]},
            "input 'X', row 1, sepal_width: the number is not finite",
        ),
        (
            {"data": [float("-inf"), 2, 3, 4, 5, 6, 7, 8]},
            "input 'X', row 0, sepal_length: the number is not finite",
        ),
        ({"datatype": "BYTES"}, "sepal_length is a number, the tensor 'X' is 'BYTES'"),
        ({"name": "Y", "shape": [4]}, f"send one tensor of shape [rows, 4], or one of shape [rows] "
                                      f"for each of {', '.join(NAMES)}"),
    ],
)  # fmt: skip
def test_a_tensor_that_does_not_fit_is_refused_and_told_where(
    card: Card, changes: dict[str, Any], message: str
) -> None:
    assert refusal(request(tensor(**changes)), card) == message


def test_a_number_too_large_for_a_float_is_refused_by_row_and_feature(card: Card) -> None:
    body = request().replace(b"5.0", b"1e999")
    message = refusal(body, card)
    assert message == "input 'X', row 1, petal_length: Number out of range"


def test_columns_must_be_the_features_once_each_and_of_one_length(card: Card) -> None:
    assert refusal(request(*columns()[:3]), card).startswith("send one tensor of shape [rows, 4]")
    assert refusal(request(*columns(), columns()[0]), card) == "two inputs have the same name"
    short = {**columns()[0], "shape": [1], "data": [1]}
    assert refusal(request(short, *columns()[1:]), card) == (
        "the inputs have different numbers of rows"
    )


def test_too_many_rows_are_refused_by_their_shape(card: Card) -> None:
    with pytest.raises(TooMuch, match="1000000000 rows are more than the limit of 10"):
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


def binary(*tensors: dict[str, Any], data: bytes, **fields: Any) -> tuple[bytes, int]:
    """A body with `data` after its JSON, and the number of bytes of that."""
    head = json.dumps({"inputs": tensors, **fields}).encode()
    return head + data, len(head)


def binary_tensor(size: int, **changes: Any) -> dict[str, Any]:
    plain = {"name": "X", "shape": [2, 4], "datatype": "FP64"}
    return {**plain, "parameters": {"binary_data_size": size}, **changes}


DATA = np.array(ROWS).tobytes()


def test_binary_data_is_the_same_rows(card: Card) -> None:
    body, size = binary(binary_tensor(64), data=DATA)
    assert parse(body, card, 9, size).X.tolist() == ROWS
    columns = [
        binary_tensor(16, name=name, shape=[2])
        if i
        else tensor(name=name, shape=[2], data=[5.1, 6])
        for i, name in enumerate(NAMES)
    ]
    body, size = binary(*columns, data=np.array(ROWS).T[1:].tobytes())
    assert parse(body, card, 9, size).X.tolist() == ROWS


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


def test_a_binary_response_is_json_and_then_the_data_in_order(loaded: Loaded) -> None:
    fields = {"parameters": {"binary_data_output": True}}
    parsed = parse(request(**fields), loaded.card, 9)
    prediction = predict(loaded.model, parsed.X)
    encoded = ResponseEncoder(loaded.card, "1").encode(parsed, prediction)
    labels = b"\x06\0\0\0setosa\x09\0\0\0virginica"
    assert json.loads(encoded.body[: encoded.json_size])["outputs"] == [
        {"name": "predict", "shape": [2], "datatype": "BYTES",
         "parameters": {"binary_data_size": 23}},
        {"name": "predict_proba", "shape": [2, 3], "datatype": "FP64",
         "parameters": {"binary_data_size": 48}},
    ]  # fmt: skip
    assert encoded.body[encoded.json_size :] == labels + np.array(prediction.proba).tobytes()


@pytest.mark.parametrize(
    ("changes", "data", "size", "message"),
    [
        ({}, DATA, None, "not JSON: "),
        ({}, DATA, 0, "the JSON cannot have 0 of the body's 168 bytes"),
        ({}, DATA, 999, "the JSON cannot have 999 of the body's 168 bytes"),
        ({}, DATA[:-1], -1, "input 'X': the body ends before its 64 bytes of binary data"),
        ({}, DATA + b"!", -1, "1 bytes after the JSON belong to no input"),
        ({"data": [1]}, DATA, -1, "input 'X' has both data and a binary_data_size"),
        ({"shape": [3, 4]}, DATA, -1, "input 'X': the data has not the shape [3, 4]"),
        ({"datatype": "FP99"}, DATA, -1, "input 'X': 'FP99' is none of the datatypes"),
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


def nullable_card() -> Card:
    features = (
        Feature(name="colour", type="text", nullable=True),
        Feature(name="size", nullable=True),
        Feature(name="age"),
    )
    return Card(name="m", kind="regressor", features=features, libraries={}, sha256="0" * 64)


def test_null_is_a_missing_value_where_there_may_be_one() -> None:
    colour = tensor(name="colour", shape=[2], datatype="BYTES", data=["red", None])
    size = tensor(name="size", shape=[2], data=[None, 2.5])
    age = tensor(name="age", shape=[2], data=[3, 4])
    X = parse(request(colour, size, age), nullable_card(), 9).X
    assert repr(X.tolist()) == "[['red', nan, 3.0], [nan, 2.5, 4.0]]"
    nan = np.array([np.nan, 2.5]).tobytes()
    body, length = binary(colour, binary_tensor(16, name="size", shape=[2]), age, data=nan)
    X = parse(body, nullable_card(), 9, length).X
    assert repr(X.tolist()) == "[['red', nan, 3.0], [nan, 2.5, 4.0]]"
    lacking = {**age, "data": [3, None]}
    message = refusal(request(colour, size, lacking), nullable_card())
    assert message == "input 'age', row 1, age: Expected `float`, got `null`"


def test_true_is_one_in_a_tensor_of_bool(card: Card) -> None:
    flags = tensor(shape=[1, 4], datatype="BOOL", data=[True, False, True, True])
    assert parse(request(flags), card, 9).X.tolist() == [[1, 0, 1, 1]]
    message = refusal(request({**flags, "data": [1, 0, 1, 1]}), card)
    assert message == "input 'X', row 0, sepal_length: Expected `bool`, got `int`"


@given(
    st.lists(st.sampled_from(["FP32", "INT8", "BOOL", "BYTES", "FP64", "?"]), max_size=3),
    st.integers(-1, 200),
    st.binary(max_size=100),
)
def test_any_binary_request_is_a_question_or_refused(
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
