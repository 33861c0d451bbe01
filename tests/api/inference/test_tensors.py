"""Tensors in JSON or binary become rows, and one rule refuses those that are not valid."""

from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from api.errors import BadRequest, RequestError, TooMuch
from api.inference.datatypes import BYTES, to_binary
from api.inference.fast_request import FastParser
from api.inference.metadata import TensorMetadata, model_metadata
from api.inference.request import parse
from model.artifact import Loaded
from model.card import Card, Feature
from model.errors import InvalidRow
from model.rows import check
from model.table import table_for
from tests.api.inference.bodies import (
    DATA,
    NAMES,
    ROWS,
    binary,
    binary_tensor,
    columns,
    refusal,
    request,
    tensor,
)


@pytest.fixture
def card(loaded: Loaded) -> Card:
    return loaded.card


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
    assert message == f"row 2 of 2, colour: '{'x' * 40}…' is not one of: red, blue"
    assert model_metadata(mixed_card(), ["1"]).inputs == [
        TensorMetadata("colour", "BYTES", [-1]),
        TensorMetadata("size", "FP64", [-1]),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [2, 5]}, f"row 1 of 2, got 5 values, iris takes 4: {', '.join(NAMES)}"),
        ({"shape": [3, 4]}, "input 'X': the data does not have the shape [3, 4]"),
        ({"shape": [0, 4], "data": []}, "there are no rows"),
        ({"data": [1, 2]}, "input 'X': the data does not have the shape [2, 4]"),
        ({"data": [ROWS[0], [3]]}, f"row 2 of 2, got 1 values, iris takes 4: {', '.join(NAMES)}"),
        ({"data": [[[1]]]}, "input 'X': the data does not have the shape [2, 4]"),
        (
            {"data": [[[1], 1, 1, 1], ROWS[0]]},
            "row 1 of 2, sepal_length: a list is not a number",
        ),
        ({"data": [ROWS[0], 5]}, "row 2 of 2, 5 is not a list of values"),
        ({"data": {}}, "input 'X': the data must be a list"),
        (
            {"data": [ROWS[0], [6, 3, "5", 2]]},
            "row 2 of 2, petal_length: '5' is not a number",
        ),
        (
            {"data": [1, 2, 3, 4, 5, 6, True, 8]},
            "row 2 of 2, petal_length: true is not a number",
        ),
        (
            {"data": [ROWS[0], [6, float("nan"), 5, 2]]},
            "row 2 of 2, sepal_width: NaN is not a finite number",
        ),
        (
            {"data": [float("-inf"), 2, 3, 4, 5, 6, 7, 8]},
            "row 1 of 2, sepal_length: -Infinity is not a finite number",
        ),
        ({"datatype": "BYTES"}, "input 'X': sepal_length is a number, the datatype is BYTES"),
        ({"name": "Y", "shape": [4]}, f"send one tensor of shape [rows, 4], or one of shape [rows] "
                                      f"for each of {', '.join(NAMES)}"),
    ],
)  # fmt: skip
def test_a_tensor_that_does_not_fit_is_refused_with_the_place_of_the_fault(
    card: Card, changes: dict[str, Any], message: str
) -> None:
    assert refusal(request(tensor(**changes)), card) == message


def test_a_number_too_large_for_a_float_is_refused_by_row_and_feature(card: Card) -> None:
    body = request().replace(b"5.0", b"1e999")
    message = refusal(body, card)
    assert message == "row 2 of 2, petal_length: Infinity is not a finite number"


def test_columns_must_be_the_features_once_each_and_of_one_length(card: Card) -> None:
    assert refusal(request(*columns()[:3]), card).startswith("send one tensor of shape [rows, 4]")
    assert refusal(request(*columns(), columns()[0]), card) == "two inputs have the same name"
    short = {**columns()[0], "shape": [1], "data": [1]}
    assert refusal(request(short, *columns()[1:]), card) == (
        "the inputs have different numbers of rows"
    )


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
    assert message == "row 2 of 2, age: the value is missing; a number is required"


def test_true_is_one_in_a_tensor_of_bool(card: Card) -> None:
    flags = tensor(shape=[1, 4], datatype="BOOL", data=[True, False, True, True])
    assert parse(request(flags), card, 9).X.tolist() == [[1, 0, 1, 1]]
    message = refusal(request({**flags, "data": [1, 0, 1, 1]}), card)
    assert message == "input 'X', sepal_length: the value is not of datatype BOOL"


def kinds_card() -> Card:
    features = (
        Feature(name="postcode", type="integer"),
        Feature(name="new", type="boolean"),
        Feature(name="size"),
    )
    return Card(name="m", kind="regressor", features=features, libraries={}, sha256="0" * 64)


NUMBERS = ["FP64", "FP32", "INT64", "INT32", "UINT32", "UINT64"]


@pytest.mark.parametrize("datatype", NUMBERS)
@pytest.mark.parametrize("truth", [("BOOL", True), ("FP64", 1.0), ("UINT8", 1), ("INT64", 1)])
@pytest.mark.parametrize("is_binary", [False, True])
def test_a_value_is_the_same_in_every_datatype_that_holds_it(
    datatype: str, truth: tuple[str, Any], is_binary: bool
) -> None:
    card, (bool_type, true) = kinds_card(), truth
    values = {"postcode": (datatype, 80331), "new": (bool_type, true), "size": (datatype, 2)}
    tensors = [tensor(name=n, shape=[1], datatype=t, data=[v]) for n, (t, v) in values.items()]
    body, size = request(*tensors), None
    if is_binary:
        parts = [to_binary([value], kind) for kind, value in values.values()]
        tensors = [
            binary_tensor(len(part), name=name, shape=[1], datatype=kind)
            for part, (name, (kind, _)) in zip(parts, values.items(), strict=True)
        ]
        body, size = binary(*tensors, data=b"".join(parts))
    assert repr(parse(body, card, 9, size).X.tolist()) == "[[80331.0, 1.0, 2.0]]"
    table = table_for(LinearRegression(), card.features)(parse(body, card, 9, size).X)
    assert repr(table.tolist()) == "[[80331.0, 1.0, 2.0]]"


@pytest.mark.parametrize(
    ("column", "kind", "value", "sentence"),
    [
        ("postcode", "FP64", 80331.5, "postcode: 80331.5 is not a whole number"),
        ("postcode", "INT64", 2**53, "postcode: 9007199254740992 is not a whole number from "
                                     "-9007199254740991 to 9007199254740991"),
        ("new", "FP64", 0.5, "new: 0.5 is not true or false"),
        ("new", "INT64", 2, "new: 2 is not true or false"),
        ("postcode", "BYTES", "x", "postcode: 'x' is not a whole number"),
    ],
)  # fmt: skip
def test_a_value_that_the_column_cannot_hold_is_refused_in_every_datatype(
    column: str, kind: str, value: Any, sentence: str
) -> None:
    given = {"postcode": ("INT64", 1), "new": ("BOOL", True), "size": ("FP64", 1.5)}
    given[column] = (kind, value)
    tensors = [tensor(name=n, shape=[1], datatype=t, data=[v]) for n, (t, v) in given.items()]
    assert verdict_on(request(*tensors), kinds_card()) == ("wrong_type", sentence)


def test_whole_numbers_in_one_tensor_are_valid_by_the_one_rule(card: Card) -> None:
    features = tuple(Feature(name=name, type="integer") for name in NAMES)
    whole = msgspec.structs.replace(card, features=features)
    for datatype in ("FP64", "INT64"):
        body = request(tensor(shape=[1, 4], datatype=datatype, data=[[1, 2, 3, 4]]))
        assert parse(body, whole, 9).X.tolist() == [[1.0, 2.0, 3.0, 4.0]]
    body = request(tensor(shape=[1, 4], data=[[1, 2, 3, 4.5]]))
    assert verdict_on(body, whole) == ("wrong_type", "petal_width: 4.5 is not a whole number")
    assert FastParser(whole).parse(body, 9) is None


def test_metadata_names_the_datatype_of_each_column() -> None:
    features = (
        *kinds_card().features,
        Feature(name="age", type="integer", nullable=True),
        Feature(name="note", type="text"),
    )
    card = msgspec.structs.replace(kinds_card(), features=features)
    assert [(each.name, each.datatype) for each in model_metadata(card, ["1"]).inputs] == [
        ("postcode", "INT64"), ("new", "BOOL"), ("size", "FP64"), ("age", "FP64"), ("note", BYTES),
    ]  # fmt: skip


def ruled_card() -> Card:
    features = (
        Feature(name="colour", type="text", categories=("red", "blue"), nullable=True),
        Feature(name="note", type="text"),
        Feature(name="size", nullable=True),
        Feature(name="age"),
    )
    return Card(name="m", kind="regressor", features=features, libraries={}, sha256="0" * 64)


GOOD = ["red", "", 1.5, 3]
NAN = float("nan")


def verdict_of_the_rule(card: Card, X: list[list[Any]]) -> tuple[str, str] | None:
    try:
        check(card, X)
    except InvalidRow as e:
        return e.code, str(e)
    return None


def verdict_on(
    body: bytes, card: Card, json_size: int | None = None
) -> tuple[str | None, str] | None:
    try:
        parse(body, card, 9, json_size)
    except BadRequest as e:
        return e.code, str(e)
    return None


@pytest.mark.parametrize(
    "X",
    [
        [GOOD],
        [[None, "x", None, 1e308], GOOD],
        [GOOD, ["green", "", 1, 2]],
        [["Red", "", 1, 2]],
        [[5, "", 1, 2]],
        [[5.5, "", 1, 2]],
        [[True, "", 1, 2]],
        [GOOD, [["red"], "", 1, 2]],
        [[{}, "", 1, 2]],
        [GOOD, ["red", None, 1, 2]],
        [["red", "", "abc", 2]],
        [["red", "", "1.5", 2]],
        [["red", "", False, 2]],
        [["red", "", NAN, 2]],
        [["red", "", float("inf"), 2]],
        [["red", "", 10**400, 2]],
        [GOOD, GOOD, ["red", "", 1, None]],
        [["red", "", 1, NAN]],
        [["red", "", 1, float("-inf")], GOOD],
        # Two faults in different tensors: the first by row counts.
        [["red", "", 1, "late"], ["green", "", 1, 2]],
        [["red", 7, "early", "late"]],
        [["\x00" * 200, "", 1, 2]],
    ],
)
def test_json_is_valid_by_the_one_rule(X: list[list[Any]]) -> None:
    card = ruled_card()
    tensors = [
        tensor(
            name=feature.name,
            shape=[len(X)],
            datatype="BYTES" if feature.type == "text" else "FP64",
            data=list(values),
        )
        for feature, values in zip(card.features, zip(*X, strict=True), strict=True)
    ]
    assert verdict_on(request(*tensors), card) == verdict_of_the_rule(card, X)


@pytest.mark.parametrize(
    "X",
    [
        ROWS,
        [ROWS[0], ["abc", 1, 2, 3]],
        [[1, None, 2, 3], ROWS[1]],
        [ROWS[0], [1, 2, 3, NAN]],
        [[1, 2, float("-inf"), "x"]],
        [ROWS[0], [1, 2, 3]],
        [ROWS[0], [1, 2, 3, 4, 5]],
        [[1, 2, 10**400, 3]],
        [ROWS[0], {}],
    ],
)
def test_a_matrix_in_json_is_valid_by_the_one_rule(card: Card, X: list[Any]) -> None:
    body = request(tensor(shape=[len(X), 4], data=X))
    assert verdict_on(body, card) == verdict_of_the_rule(card, X)


def test_a_number_of_more_digits_than_python_reads_is_not_finite(card: Card) -> None:
    body = request(tensor(shape=[1, 4], data=[1, 2, 0, 3])).replace(b"0", b"9" * 5000)
    infinite = "not_finite", "petal_length: Infinity is not a finite number"
    assert verdict_on(body, card) == infinite


def test_binary_values_are_valid_by_the_one_rule() -> None:
    card = ruled_card()
    size, age = binary_tensor(16, name="size", shape=[2]), binary_tensor(16, name="age", shape=[2])
    colour = {**size, "name": "colour"}
    texts = [
        tensor(name="colour", shape=[2], datatype="BYTES", data=["red", None]),
        tensor(name="note", shape=[2], datatype="BYTES", data=["", ""]),
    ]

    def verdict(*tensors: Any, numbers: list[float]) -> tuple[str | None, str] | None:
        body, json_size = binary(*tensors, data=np.array(numbers, float).tobytes())
        return verdict_on(body, card, json_size)

    assert verdict(*texts, size, age, numbers=[NAN, 1, 2, 3]) is None
    assert verdict(*texts, size, age, numbers=[NAN, 1, 2, NAN]) == (
        "not_finite", "row 2 of 2, age: NaN is not a finite number"
    )  # fmt: skip
    assert verdict(*texts, size, age, numbers=[float("inf"), 1, 2, 3]) == (
        "not_finite", "row 1 of 2, size: Infinity is not a finite number"
    )  # fmt: skip
    assert verdict(colour, texts[1], size, age, numbers=[5, 6, 1, 1, 2, 3]) == (
        "wrong_type", "row 1 of 2, colour: 5 is not a text"
    )  # fmt: skip


def test_binary_texts_for_a_number_are_refused_by_the_first(card: Card) -> None:
    data = to_binary(["1", "b", "c", "d"], "BYTES")
    body, size = binary(binary_tensor(len(data), shape=[1, 4], datatype="BYTES"), data=data)
    assert verdict_on(body, card, size) == ("wrong_type", "sepal_length: '1' is not a number")


def test_true_in_a_tensor_of_bool_is_not_the_fault(card: Card) -> None:
    flags = tensor(shape=[1, 4], datatype="BOOL", data=[True, False, "x", True])
    assert verdict_on(request(flags), card) == ("wrong_type", "petal_length: 'x' is not a number")


@pytest.mark.parametrize(
    ("datatype", "data", "message"),
    [
        ("INT8", [1, 2, 3, 300], "input 'X': a number does not fit into INT8"),
        ("INT8", [1, 2, 3, 0.5], "input 'X', petal_width: the value is not of datatype INT8"),
        ("BYTES", [1, 2, 3, 4], "input 'X': sepal_length is a number, the datatype is BYTES"),
    ],
)
def test_a_valid_value_of_another_datatype_is_the_fault_of_the_tensor(
    card: Card, datatype: str, data: list[Any], message: str
) -> None:
    body = request(tensor(shape=[1, 4], datatype=datatype, data=data))
    assert verdict_on(body, card) == (None, message)


@pytest.mark.parametrize(("count", "code"), [(0, "no_rows"), (10, "too_many_rows")])
def test_the_number_of_rows_is_valid_by_the_one_rule(card: Card, count: int, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse(request(tensor(shape=[count, 4], data=[ROWS[0]] * count)), card, 9)
    assert (caught.value.code, type(caught.value)) == (
        code, TooMuch if count else BadRequest
    )  # fmt: skip


def test_a_row_of_the_wrong_width_has_a_code(card: Card) -> None:
    body = request(tensor(shape=[1, 3], data=ROWS[0][:3]))
    assert verdict_on(body, card) == verdict_of_the_rule(card, [ROWS[0][:3]])


def test_nan_outside_the_data_is_not_json(card: Card) -> None:
    body = request(parameters={"x": NAN})
    assert refusal(body, card).startswith("not JSON: ")
