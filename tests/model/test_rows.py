"""One rule for a valid row: what it accepts, and the code and sentence of what it refuses."""

import json
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model import rows
from model.artifact import Loaded
from model.card import Card, Feature
from model.errors import InvalidRow

MIXED = Card(
    name="houses",
    kind="regressor",
    features=(
        Feature(name="area", unit="m²", minimum=20.0, maximum=400.0),
        Feature(name="heating", type="text", categories=("gas", "heat pump")),
        Feature(name="year", nullable=True),
        Feature(name="note", type="text"),
        Feature(name="garage", type="text", categories=("yes", "no"), nullable=True),
    ),
    libraries={},
    sha256="ab" * 32,
)
AREA, HEATING, YEAR, NOTE, GARAGE = MIXED.features
GOOD = [80.0, "heat pump", None, "", "yes"]
HUGE = 10**400

NUMBERS = st.one_of(
    st.floats(),
    st.integers(),
    st.sampled_from([HUGE, -HUGE, 2**53 + 1, 10**308, 1e308, 5e-324, -0.0]),
)
TEXTS = st.one_of(st.sampled_from(["gas", "heat pump", "yes", "no", "Gas", "gas "]), st.text())
ANYTHING = st.one_of(
    NUMBERS,
    TEXTS,
    st.none(),
    st.booleans(),
    st.sampled_from([[], [1.0], {}, (), b"gas", np.float64(1), np.float64("nan"), np.int64(1)]),
    st.sampled_from([np.float32(1), np.bool_(True), np.str_("gas"), 1j]),
)
ROW = st.lists(ANYTHING, min_size=4, max_size=6)
NEARLY_VALID = st.tuples(
    NUMBERS,
    st.sampled_from(["gas", "heat pump", "coal"]),
    st.one_of(st.none(), NUMBERS),
    TEXTS,
    st.sampled_from(["yes", "no", None]),
).map(list)
TABLES = st.lists(st.one_of(NEARLY_VALID, ROW, ROW.map(tuple), ANYTHING), max_size=4)


def refused(check: Callable[..., object], *arguments: Any) -> tuple[str, str] | None:
    """The code and the sentence of the InvalidRow that a call raises, or None."""
    try:
        check(*arguments)
    except InvalidRow as e:
        return e.code, str(e)
    return None


def allowed(feature: Feature, value: Any) -> bool:
    """The rule as a definition, independent of the tested code."""
    if value is None:
        return feature.nullable
    if isinstance(value, bool):
        return False
    if feature.type == "text":
        return isinstance(value, str) and (not feature.categories or value in feature.categories)
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def first_fault(X: Any) -> tuple[int, int] | None:
    """Row and column of the first value that is not allowed; column -1: the row itself."""
    for n, row in enumerate(X):
        if not isinstance(row, list | tuple) or len(row) != len(MIXED.features):
            return n, -1
        for column, (feature, value) in enumerate(zip(MIXED.features, row, strict=True)):
            if not allowed(feature, value):
                return n, column
    return None


@given(TABLES)
def test_a_table_is_refused_exactly_for_its_first_value_that_is_not_allowed(X: list[Any]) -> None:
    fault = first_fault(X)
    found = refused(rows.check, MIXED, X)
    assert (found is None) == (fault is None)
    if found is None or fault is None:
        return
    row, column = fault
    place = f"row {row + 1} of {len(X)}, " if len(X) > 1 else ""
    name = "" if column < 0 else f"{MIXED.features[column].name}: "
    assert found[1].startswith(place + name)


@given(st.lists(st.one_of(NEARLY_VALID, ROW), max_size=4))
def test_the_look_by_column_and_the_look_by_value_agree_on_json(X: list[Any]) -> None:
    plain = json.loads(json.dumps(X, default=str))  # NaN and Infinity as Python's json reads them
    by_column = rows._is_valid(MIXED.features, plain)
    assert by_column == (refused(rows._raise_first_fault, MIXED, plain) is None)


@given(TABLES)
def test_what_the_look_by_column_accepts_the_look_by_value_accepts(X: list[Any]) -> None:
    if rows._is_valid(MIXED.features, X):
        rows._raise_first_fault(MIXED, X)


@given(st.sampled_from(MIXED.features), ANYTHING)
def test_a_sentence_is_short_printable_and_names_the_feature(feature: Feature, value: Any) -> None:
    found = refused(rows.check_value, feature, value)
    assert (found is None) == allowed(feature, value)
    if found is not None:
        assert found[1].startswith(f"{feature.name}: ")
        assert len(found[1]) < 300
        assert found[1].isprintable()


@pytest.mark.parametrize(
    ("feature", "value", "code", "fault"),
    [
        (AREA, None, "wrong_type", "the value is missing; a number is required"),
        (NOTE, None, "wrong_type", "the value is missing; a text is required"),
        (AREA, "abc", "wrong_type", "'abc' is not a number"),
        (AREA, "5", "wrong_type", "'5' is not a number"),
        (AREA, "", "wrong_type", "'' is not a number"),
        (AREA, "x" * 100, "wrong_type", f"'{'x' * 40}…' is not a number"),
        (AREA, "\x1b[1m\n", "wrong_type", r"'\x1b[1m\n' is not a number"),
        (AREA, "\ud800", "wrong_type", r"'\ud800' is not a number"),
        (AREA, "größer", "wrong_type", "'größer' is not a number"),
        (AREA, True, "wrong_type", "true is not a number"),
        (NOTE, False, "wrong_type", "false is not a text"),
        (AREA, [1.0], "wrong_type", "a list is not a number"),
        (AREA, (1.0,), "wrong_type", "a list is not a number"),
        (NOTE, {"a": 1}, "wrong_type", "an object is not a text"),
        (NOTE, b"gas", "wrong_type", "a value of type bytes is not a text"),
        (AREA, np.int64(5), "wrong_type", "a value of type int64 is not a number"),
        (AREA, math.nan, "not_finite", "NaN is not a finite number"),
        (AREA, math.inf, "not_finite", "Infinity is not a finite number"),
        (YEAR, -math.inf, "not_finite", "-Infinity is not a finite number"),
        (YEAR, math.nan, "not_finite", "NaN is not a finite number"),
        (AREA, np.float64("nan"), "not_finite", "NaN is not a finite number"),
        (AREA, HUGE, "not_finite", "Infinity is not a finite number"),
        (AREA, -HUGE, "not_finite", "-Infinity is not a finite number"),
        (NOTE, 5, "wrong_type", "5 is not a text"),
        (NOTE, 5.0, "wrong_type", "5 is not a text"),
        (NOTE, 10**300, "wrong_type", "1e+300 is not a text"),
        (NOTE, -2.5, "wrong_type", "-2.5 is not a text"),
        (NOTE, math.nan, "wrong_type", "NaN is not a text"),
        (HEATING, "coal", "unknown_category", "'coal' is not one of: gas, heat pump"),
        (HEATING, "Gas", "unknown_category", "'Gas' is not one of: gas, heat pump"),
        (HEATING, "", "unknown_category", "'' is not one of: gas, heat pump"),
        (GARAGE, "", "unknown_category", "'' is not one of: yes, no"),
    ],
)
def test_a_value_that_is_not_allowed_has_a_code_and_a_sentence(
    feature: Feature, value: Any, code: str, fault: str
) -> None:
    assert refused(rows.check_value, feature, value) == (code, f"{feature.name}: {fault}")


@pytest.mark.parametrize(
    ("feature", "values"),
    [
        (AREA, [0, -0.0, 5, 1e308, -1e308, 5e-324, 2**53 + 1, 10**308, np.float64(1)]),
        (YEAR, [None, 1990]),
        (NOTE, ["", " ", "größer", "\x00", "x" * 10_000]),
        (GARAGE, [None, "no"]),
    ],
)
def test_a_value_that_the_card_allows_is_accepted(feature: Feature, values: list[Any]) -> None:
    assert [refused(rows.check_value, feature, value) for value in values] == [None] * len(values)


def test_a_sentence_lists_at_most_40_categories() -> None:
    feature = Feature(name="town", type="text", categories=tuple(f"t{n}" for n in range(1000)))
    listed = ", ".join(f"t{n}" for n in range(40))
    assert refused(rows.check_value, feature, "x") == (
        "unknown_category",
        f"town: 'x' is not one of: {listed}, …",
    )


@pytest.mark.parametrize(
    ("X", "code", "sentence"),
    [
        (None, "wrong_shape", "X must be a list of rows, each a list of values"),
        ("gas", "wrong_shape", "X must be a list of rows, each a list of values"),
        ({"area": 1}, "wrong_shape", "X must be a list of rows, each a list of values"),
        ([80.0], "wrong_shape", "80 is not a list of values"),
        ([GOOD, None], "wrong_shape", "row 2 of 2, null is not a list of values"),
        (
            [GOOD[:2]],
            "wrong_width",
            "got 2 values, houses takes 5: area, heating, year, note, garage",
        ),
        (
            [GOOD, GOOD, [*GOOD, 1]],
            "wrong_width",
            "row 3 of 3, got 6 values, houses takes 5: area, heating, year, note, garage",
        ),
        ([GOOD, ["x", *GOOD[1:]]], "wrong_type", "row 2 of 2, area: 'x' is not a number"),
        ([["x", "y", *GOOD[2:]], []], "wrong_type", "row 1 of 2, area: 'x' is not a number"),
        ([[*GOOD[:3], [[]], "no"]], "wrong_type", "note: a list is not a text"),
    ],
)
def test_a_table_that_is_not_allowed_has_a_code_and_a_sentence(
    X: Any, code: str, sentence: str
) -> None:
    assert refused(rows.check, MIXED, X) == (code, sentence)


@pytest.mark.parametrize("X", [[], [GOOD], [GOOD] * 3, [tuple(GOOD)], (GOOD,)])
def test_a_valid_table_is_accepted(X: Any) -> None:
    assert refused(rows.check, MIXED, X) is None


@given(
    arrays(
        np.float64,
        st.tuples(st.integers(0, 4), st.just(2)),
        elements=st.one_of(st.floats(), st.sampled_from([math.nan, math.inf, 1.0])),
    )
)
def test_an_array_is_accepted_and_refused_as_its_rows_with_none_for_nan(X: Any) -> None:
    """Only a required value differs: an array cannot tell a missing one from NaN."""
    card = Card(name="c", kind="regressor", features=(AREA, YEAR), libraries={}, sha256="ab" * 32)
    as_json = [[a, None if math.isnan(b) else b] for a, b in X.tolist()]
    expected = refused(rows.check, card, as_json)
    assert refused(rows.check_array, card.features, X) == expected


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "bool"])
def test_an_array_of_another_number_type_is_accepted(dtype: str) -> None:
    rows.check_array((AREA, YEAR), np.ones((3, 2), dtype))


def test_the_number_of_rows_has_a_limit() -> None:
    assert refused(rows.check_count, 1, 1) is None
    assert refused(rows.check_count, 0, 3) == ("no_rows", "there are no rows")
    assert refused(rows.check_count, 4, 3) == ("too_many_rows", "got 4 rows, the limit is 3")


def test_typed_numbers_are_parsed_in_the_order_of_the_features(loaded: Loaded) -> None:
    assert rows.parse(loaded.card, ["5.1", "-3", " 1.4e0 ", "0"]) == [5.1, -3.0, 1.4, 0.0]


def test_a_wrong_number_of_typed_values_names_all_features(loaded: Loaded) -> None:
    assert refused(rows.parse, loaded.card, ["1", "2"]) == (
        "wrong_width",
        "got 2 values, iris takes 4: sepal_length, sepal_width, petal_length, petal_width",
    )


@pytest.mark.parametrize(
    ("text", "code", "fault"),
    [
        ("abc", "wrong_type", "'abc' is not a number"),
        ("", "wrong_type", "the value is missing; a number is required"),
        ("1,5", "wrong_type", "'1,5' is not a number"),
        ("1_5", "wrong_type", "'1_5' is not a number"),
        ("0x10", "wrong_type", "'0x10' is not a number"),
        ("nan", "not_finite", "NaN is not a finite number"),
        ("-inf", "not_finite", "-Infinity is not a finite number"),
        ("1e999", "not_finite", "Infinity is not a finite number"),
        ("x" * 100, "wrong_type", f"'{'x' * 40}…' is not a number"),
    ],
)
def test_a_typed_value_that_is_not_a_finite_number_names_its_feature(
    loaded: Loaded, text: str, code: str, fault: str
) -> None:
    typed = ["5.1", text, "1.4", "0.2"]
    assert refused(rows.parse, loaded.card, typed) == (code, f"sepal_width: {fault}")


def test_typed_texts_and_missing_values_follow_the_card() -> None:
    typed = [" 80 ", "heat pump", " ", "", ""]
    assert rows.parse(MIXED, typed) == [80.0, "heat pump", None, "", None]
    assert refused(rows.parse, MIXED, ["80", "coal", "1990", "", ""]) == (
        "unknown_category",
        "heating: 'coal' is not one of: gas, heat pump",
    )


@pytest.mark.parametrize("text", [" ", " Private", "two  words\t", "\n", "\u00a0x"])
def test_the_spaces_of_a_typed_text_belong_to_it(text: str) -> None:
    category = Feature(name="work", type="text", categories=("", "Private", text), nullable=True)
    assert rows.parse_value(NOTE, text) == rows.parse_value(category, text) == text
    assert refused(rows.parse_value, HEATING, " gas") == (
        "unknown_category",
        "heating: ' gas' is not one of: gas, heat pump",
    )


@given(st.sampled_from(MIXED.features), st.text())
def test_a_typed_text_becomes_a_valid_value_or_is_refused(feature: Feature, text: str) -> None:
    found = refused(rows.parse_value, feature, text)
    if found is None:
        assert allowed(feature, rows.parse_value(feature, text))
    else:
        assert found[1].startswith(f"{feature.name}: ")
