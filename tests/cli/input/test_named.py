"""Rows of named values: names, quotes, missing ones, JSON."""

from typing import Any

import pytest

from cli.input.named import parse
from model.card import Card, Feature
from model.errors import InvalidRow

HOUSE = Card(
    name="house",
    kind="regressor",
    features=(
        Feature(name="living area"),
        Feature(name="kind", type="text", categories=("terraced house", "flat", "Bungalow, groß")),
        Feature(name="note", type="text", nullable=True),
        Feature(name="garden", type="boolean", nullable=True),
        Feature(name="rooms", type="integer", nullable=True),
        Feature(name="a=b", nullable=True),
        Feature(name="x:y", nullable=True),
    ),
    libraries={},
    sha256="0" * 64,
)
NOTHING = [None] * 5


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ('"living area"=80 kind=flat', [80.0, "flat", *NOTHING]),
        ("kind=flat 'living area=-1.5e2'", [-150.0, "flat", *NOTHING]),
        ('living_area=80 KIND="terraced house"', [80.0, "terraced house", *NOTHING]),
        ('living-area=80 kind="Bungalow, groß"', [80.0, "Bungalow, groß", *NOTHING]),
        ("living_area=1 kind=flat note=", [1.0, "flat", *NOTHING]),
        ("living_area=1 kind=flat note=NA", [1.0, "flat", *NOTHING]),
        ("living_area=1 kind=flat note=a=b=c", [1.0, "flat", "a=b=c", None, None, None, None]),
        ("living_area=1 kind=flat a=b=2 x:y=3", [1.0, "flat", None, None, None, 2.0, 3.0]),
        (
            "living_area=1 kind=flat garden=TRUE rooms=3.0 \n note='two  words'",
            [1.0, "flat", "two  words", True, 3, None, None],
        ),
        (
            ' {"kind": "flat", "living area": 80, "garden": false, "note": null}',
            [80, "flat", None, False, None, None, None],
        ),
    ],
)
def test_values_are_given_by_name_in_any_order(text: str, row: list[Any]) -> None:
    found = parse(HOUSE, text)
    assert (found, list(map(type, found))) == (row, list(map(type, row)))


@pytest.mark.parametrize(
    ("text", "code", "sentence"),
    [
        ("", "wrong_width", "no value for: living area, kind"),
        ("kind=flat", "wrong_width", "no value for: living area"),
        ("{}", "wrong_width", "no value for: living area, kind"),
        (
            "living_area=1 knid=flat",
            "wrong_shape",
            "house has no feature 'knid'; did you mean kind?",
        ),
        (
            "zzzzzz=1",
            "wrong_shape",
            "house has no feature 'zzzzzz'; it has: living area, kind, note, garden, rooms, a=b, "
            "x:y",
        ),
        ("kind=flat kind=flat", "wrong_shape", "kind has two values; give one"),
        ("kind=flat Kind=flat", "wrong_shape", "kind has two values; give one"),
        (
            "kind=terraced house",
            "wrong_shape",
            "'house' is not name=value; quote a value with spaces: name=\"two words\"",
        ),
        (
            "note=O'Brien",
            "wrong_shape",
            'a quote in "note=O\'Brien" is not closed; quote a text that has one: "name=O\'Brien"',
        ),
        ("living_area=x kind=flat", "wrong_type", "living area: 'x' is not a number"),
        (
            "living_area=1 kind=hut",
            "unknown_category",
            "kind: 'hut' is not one of: terraced house, flat, 'Bungalow, groß'",
        ),
        (
            "living_area= kind=flat",
            "wrong_type",
            "living area: the value is missing; a number is required",
        ),
        (
            '{"living area": "80", "kind": "flat"}',
            "wrong_type",
            "living area: '80' is not a number",
        ),
        (
            '{"living area": 80',
            "wrong_shape",
            "'{\"living area\": 80' is not a JSON object: Input data was truncated",
        ),
        (
            '{"living area": null, "kind": "flat"}',
            "wrong_type",
            "living area: the value is missing; a number is required",
        ),
    ],
)
def test_what_is_no_row_is_refused_with_a_sentence(text: str, code: str, sentence: str) -> None:
    with pytest.raises(InvalidRow) as caught:
        parse(HOUSE, text)
    assert (caught.value.code, str(caught.value)) == (code, sentence)
