"""What is a question for the model, and what a client may prefer."""

import json
from typing import Any

import pytest
from starlette.requests import Request

from api.errors import BadRequest, TooMuch, Unprocessable
from api.tasks.request import parse, wait_wanted
from model.artifact import Loaded
from model.card import Card, Feature

ROW = [5.1, 3.5, 1.4, 0.2]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Object missing required field `X`"),
        ({"X": []}, "$.X: no rows"),
        ({"X": [ROW, [1, 2, 3]]}, "$.X[1]: got 3 features, the model wants 4"),
        ({"X": [[1, 2, "3", 4]]}, "Expected `float`, got `str` - at `$.X[0][2]`"),
        ({"X": [[1, 2, None, 4]]}, "Expected `float`, got `null` - at `$.X[0][2]`"),
        ({"X": ROW}, "Expected `array`, got `float` - at `$.X[0]`"),
        ({"X": [ROW], "model": "rose"}, "$.model: this pipeline serves iris@"),
        ({"X": [ROW], "id": "1"}, "Expected `str` matching regex"),
        ({"X": [ROW], "x": 1}, "Object contains unknown field `x`"),
    ],
)
def test_what_is_no_question_for_the_model_is_refused_by_field(
    loaded: Loaded, body: Any, message: str
) -> None:
    with pytest.raises(Unprocessable) as caught:
        parse(json.dumps(body).encode(), loaded.card, 100)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("body", [b"{", b'{"X":[[NaN,1,1,1]]}', b'{"X":' + b"[" * 100_000, b"\xff"])
def test_what_is_no_json_is_refused(loaded: Loaded, body: bytes) -> None:
    with pytest.raises((BadRequest, Unprocessable)):
        parse(body, loaded.card, 100)


def test_too_many_rows_are_refused(loaded: Loaded) -> None:
    with pytest.raises(TooMuch):
        parse(json.dumps({"X": [ROW] * 101}).encode(), loaded.card, 100)


def test_a_mixed_row_is_checked_by_the_card() -> None:
    card = Card(
        name="mixed",
        kind="regressor",
        features=(Feature(name="colour", type="text"), Feature(name="size", nullable=True)),
        libraries={},
        sha256="0" * 64,
    )
    parsed = parse(b'{"X":[["red",1],["blue",null]]}', card, 9)
    assert parsed.X == [["red", 1.0], ["blue", None]]
    with pytest.raises(Unprocessable, match=r"^\$\.X\[1\]\[0\] \(colour\): expected a text$"):
        parse(b'{"X":[["red",1],[2,null]]}', card, 9)
    with pytest.raises(Unprocessable, match=r"^\$\.X\[0\]\[0\] \(colour\): a value is missing$"):
        parse(b'{"X":[[null,1]]}', card, 9)


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


def test_a_refusal_repeats_little_of_the_request(loaded: Loaded) -> None:
    with pytest.raises(Unprocessable) as refused:
        parse(json.dumps({"X": [[1.0]], "y" * 5000: 1}).encode(), loaded.card, 9)
    assert 50 < len(str(refused.value)) <= 110
