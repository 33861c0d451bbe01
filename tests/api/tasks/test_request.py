"""Which bodies are tasks for the model, and how long a client wants to wait."""

import json
import math
from typing import Any

import pytest
from starlette.requests import Request

from api.errors import BadRequest, TooMuch, Unprocessable
from api.tasks.request import parse, wait_wanted
from model import rows
from model.artifact import Loaded
from model.card import Card, Feature
from model.errors import InvalidRow

ROW = [5.1, 3.5, 1.4, 0.2]


NAMES = "sepal_length, sepal_width, petal_length, petal_width"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Object missing required field `X`"),
        ({"X": [ROW], "model": 5}, "Expected `str | null`, got `int` - at `$.model`"),
        ({"X": [ROW], "id": "1"}, "Expected `str` matching regex"),
        ({"X": [ROW], "x": 1}, "Object contains unknown field `x`"),
        ([], "Expected `object`, got `array`"),
    ],
)
def test_an_invalid_task_is_refused_by_field(loaded: Loaded, body: Any, message: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        parse(json.dumps(body).encode(), lambda _: loaded.card, 100)
    assert str(caught.value).startswith(message)
    assert caught.value.code is None


@pytest.mark.parametrize(
    ("X", "code", "message"),
    [
        ([], "no_rows", "there are no rows"),
        (None, "wrong_shape", "X must be a list of rows, each a list of values"),
        (ROW, "wrong_shape", "row 1 of 4, 5.1 is not a list of values"),
        ([ROW, [1, 2, 3]], "wrong_width", f"row 2 of 2, got 3 values, iris takes 4: {NAMES}"),
        ([[1, 2, "3", 4]], "wrong_type", "petal_length: '3' is not a number"),
        ([[True, 2, 3, 4]], "wrong_type", "sepal_length: true is not a number"),
        ([[1, 2, [3], 4]], "wrong_type", "petal_length: a list is not a number"),
        ([[1, 2, None, 4]], "wrong_type",
         "petal_length: the value is missing; a number is required"),
        ([ROW, [1, math.nan, 3, 4]], "not_finite",
         "row 2 of 2, sepal_width: NaN is not a finite number"),
        ([[1, 2, 3, -math.inf]], "not_finite",
         "petal_width: -Infinity is not a finite number"),
        ([[1, 2, 3, 10**400]], "not_finite",
         "petal_width: Infinity is not a finite number"),
    ],
)  # fmt: skip
def test_an_invalid_row_gets_the_code_and_sentence_of_the_one_rule(
    loaded: Loaded, X: Any, code: str, message: str
) -> None:
    with pytest.raises(InvalidRow) as expected:
        rows.check_count(len(X or ()), 100) if X == [] else rows.check(loaded.card, X)
    with pytest.raises(Unprocessable) as caught:
        parse(json.dumps({"X": X}).encode(), lambda _: loaded.card, 100)
    assert (caught.value.code, str(caught.value)) == (code, message)
    assert (expected.value.code, str(expected.value)) == (code, message)


@pytest.mark.parametrize("body", [b"{", b'{"X":[[NaN,1,1,1]]}', b'{"X":' + b"[" * 100_000, b"\xff"])
def test_a_body_that_is_not_json_is_refused(loaded: Loaded, body: bytes) -> None:
    with pytest.raises((BadRequest, Unprocessable)):
        parse(body, lambda _: loaded.card, 100)


def test_too_many_rows_are_refused(loaded: Loaded) -> None:
    for X in ([ROW] * 101, [["x"]] * 101):
        with pytest.raises(TooMuch) as caught:
            parse(json.dumps({"X": X}).encode(), lambda _: loaded.card, 100)
        assert caught.value.code == "too_many_rows"
        assert str(caught.value) == "got 101 rows, the limit is 100"


def test_a_mixed_row_is_checked_by_the_card() -> None:
    card = Card(
        name="mixed",
        kind="regressor",
        features=(Feature(name="colour", type="text"), Feature(name="size", nullable=True)),
        libraries={},
        sha256="0" * 64,
    )
    parsed = parse(b'{"X":[["red",1],["blue",null]]}', lambda _: card, 9)
    assert parsed.X == [["red", 1.0], ["blue", None]]
    with pytest.raises(Unprocessable, match=r"^row 2 of 2, colour: 2 is not a text$"):
        parse(b'{"X":[["red",1],[2,null]]}', lambda _: card, 9)
    with pytest.raises(Unprocessable, match=r"^colour: the value is missing; a text is required$"):
        parse(b'{"X":[[null,1]]}', lambda _: card, 9)


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ([], None),
        (["respond-async"], None),
        (["wait=10"], 10),
        (["respond-async, WAIT = 5;x=y"], 5),
        (["handling=lenient", 'wait="7"'], 7),
        (["wait=3600"], 60),
        (["wait=0"], 0),
        (["wait=-1"], None),
        (["wait=soon"], None),
        (["wait=" + "9" * 50], None),
    ],
)
def test_the_preferred_wait_is_read_as_rfc_7240_says(
    prefer: list[str], seconds: int | None
) -> None:
    headers = [(b"prefer", value.encode()) for value in prefer]
    assert wait_wanted(Request({"type": "http", "headers": headers})) == seconds


def test_an_error_repeats_little_of_the_request(loaded: Loaded) -> None:
    with pytest.raises(Unprocessable) as refused:
        parse(json.dumps({"X": [[1.0]], "y" * 5000: 1}).encode(), lambda _: loaded.card, 9)
    assert 50 < len(str(refused.value)) <= 110
