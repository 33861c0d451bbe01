"""Values unlike those of the training data are answered with a warning."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model.card import Card, Feature
from model.errors import InputWarning
from model.predict import matrix
from model.train import describe
from model.values.ranges import MAX_WARNINGS, Ranges, Unlike

SIZE = Feature(name="size", minimum=20.0, maximum=200.0, nullable=True)
ROOMS = Feature(name="rooms", type="integer", minimum=1.0, maximum=9.0)
KIND = Feature(name="kind", type="text", seen=("flat", "house"), nullable=True)
BUILT = Feature(name="built", type="datetime", earliest="1900-01-01", latest="2024-12-31")


def card_of(*features: Feature) -> Card:
    return Card(name="own", kind="regressor", features=features, libraries={}, sha256="0" * 64)


def warnings(feature: Feature, *values: Any) -> list[InputWarning] | None:
    card = card_of(feature)
    return Ranges(card).of(matrix([[value] for value in values], card.numeric))


def sentences(feature: Feature, *values: Any) -> list[str]:
    return [warning.message for warning in warnings(feature, *values) or ()]


@pytest.mark.parametrize(
    ("feature", "value", "sentence"),
    [
        (SIZE, 500, "size: 500 is outside the training range 20 to 200"),
        (SIZE, 19.99, "size: 19.99 is outside the training range 20 to 200"),
        (ROOMS, 10, "rooms: 10 is outside the training range 1 to 9"),
        (ROOMS, -3.0, "rooms: -3 is outside the training range 1 to 9"),
        (Feature(name="n", minimum=0.0), -1, "n: -1 is outside the training range from 0"),
        (Feature(name="n", maximum=0.0), 1, "n: 1 is outside the training range up to 0"),
        (KIND, "castle", "kind: 'castle' is not among the 2 texts of the training data"),
        (KIND, "", "kind: '' is not among the 2 texts of the training data"),
        (BUILT, "1899-12-31", "built: '1899-12-31' is outside the training range 1900-01-01 to "
                              "2024-12-31"),
        (BUILT, "2025-01-01 00:00", "built: '2025-01-01 00:00' is outside the training range "
                                    "1900-01-01 to 2024-12-31"),
    ],
)  # fmt: skip
def test_a_value_outside_what_the_card_knows_gets_a_warning(
    feature: Feature, value: Any, sentence: str
) -> None:
    assert sentences(feature, value) == [sentence]
    assert sentences(feature, value, value) == [f"row 1 of 2, {sentence}, and 1 more"]


@pytest.mark.parametrize(
    ("feature", "value"),
    [
        (SIZE, 20), (SIZE, 200.0), (SIZE, None),
        (ROOMS, 1), (ROOMS, 9.0),
        (KIND, "flat"), (KIND, None),
        (BUILT, "1900-01-01"), (BUILT, "2024-12-31T23:59:59"),
        (Feature(name="n"), 1e308),
        (Feature(name="n", nullable=True), None),
        (Feature(name="t", type="text"), "x"),
        (Feature(name="t", type="text", categories=("x",)), "x"),
        (Feature(name="b", type="boolean"), True),
    ],
)  # fmt: skip
def test_any_other_value_gets_none(feature: Feature, value: Any) -> None:
    assert warnings(feature, value) is None
    assert warnings(feature, value, value) is None


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_ends_of_a_column_of_short_floats_are_within(dtype: str) -> None:
    [feature] = describe(pd.DataFrame({"x": np.array([0.1, 0.7], dtype)}))
    assert warnings(feature, 0.1, 0.7) is None
    assert len(sentences(feature, 0.09, 0.71)) == 1


def test_times_are_compared_in_the_time_zone_of_the_column() -> None:
    feature = Feature(
        name="t", type="datetime", dtype="datetime64[ns, Europe/Berlin]",
        earliest="2024-01-01", latest="2024-12-31T12:00:00+01:00",
    )  # fmt: skip
    assert warnings(feature, "2024-12-31T11:00Z", "2024-12-31T12:00", "2024-01-01") is None
    for late in ("2024-12-31T11:01Z", "2024-12-31T12:01", "2023-12-31T22:59Z"):
        assert len(sentences(feature, late)) == 1


def test_each_part_has_the_warnings_of_its_own_rows() -> None:
    card = card_of(SIZE, KIND)
    rows: list[list[Any]] = [[50, "flat"], [500, "flat"], [1, "tent"], [None, None], [2, "house"]]
    found = Ranges(card).find(matrix(rows, card.numeric), [1, 2, 2])
    assert found == {
        1: [
            InputWarning(
                "size", "outside_training_range", 1, 2,
                "row 1 of 2, size: 500 is outside the training range 20 to 200, and 1 more",
            ),
            InputWarning(
                "kind", "unseen_category", 2, 1,
                "row 2 of 2, kind: 'tent' is not among the 2 texts of the training data",
            ),
        ],
        2: [
            InputWarning(
                "size", "outside_training_range", 2, 1,
                "row 2 of 2, size: 2 is outside the training range 20 to 200",
            )
        ],
    }  # fmt: skip


def test_numbers_alone_are_compared_row_by_row() -> None:
    card = card_of(ROOMS, Feature(name="free"))
    rows = matrix([[1, 1e9], [9, -1e9], [10, 0]], numeric=True)
    assert {*Ranges(card).find(rows, [1, 1, 1])} == {2}
    assert Ranges(card).of(rows[:1]) is None
    assert [w.row for w in Ranges(card).of(rows[2:]) or ()] == [1]


VALUES: dict[Feature, list[Any]] = {
    ROOMS: [0.5, 9, 10],
    Feature(name="free"): [1e308],
    SIZE: [500, 20, None],
    KIND: ["flat", "tent", None],
    BUILT: ["2025-01-01", None],
}


@pytest.mark.parametrize("count", [2, 5])
def test_rows_together_get_the_warnings_that_they_get_alone(count: int) -> None:
    card = card_of(*[*VALUES][:count])
    rows = matrix([list(row) for row in product(*[*VALUES.values()][:count])], card.numeric)
    ranges = Ranges(card)
    alone = {n: ranges.of(rows[n : n + 1]) for n in range(len(rows))}
    assert any(alone.values())
    found = {n: each for n, each in alone.items() if each}
    assert ranges.find(rows, [1] * len(rows)) == found


def test_a_whole_table_has_the_number_and_the_first_of_the_values_of_each_feature() -> None:
    card = card_of(SIZE, KIND, BUILT)
    rows: list[list[Any]] = [
        [50, "flat", None], [500, "tent", None], [1, "hut", "2000-01-01"], [None, None, None]
    ]  # fmt: skip
    assert Ranges(card).count(matrix(rows, card.numeric)) == [
        Unlike("size", "outside_training_range", 2, 1, "outside the training range 20 to 200"),
        Unlike("kind", "unseen_category", 2, 1, "not among the 2 texts of the training data"),
    ]
    many = [Feature(name=f"n{n}", minimum=0.0, maximum=1.0) for n in range(MAX_WARNINGS + 5)]
    assert len(Ranges(card_of(*many)).count(np.full((3, len(many)), 2.0))) == len(many)


def test_the_warnings_of_an_answer_are_bounded() -> None:
    features = [Feature(name=f"n{n}", minimum=0.0, maximum=1.0) for n in range(MAX_WARNINGS + 5)]
    found = Ranges(card_of(*features)).of(np.full((3, len(features)), 2.0)) or []
    assert len(found) == MAX_WARNINGS + 1
    assert found[-1] == InputWarning(
        "", "further_features", 1, 15, "5 others have values unlike the training data"
    )
