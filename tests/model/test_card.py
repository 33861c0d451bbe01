"""Values typed by people become rows, or an error that names the feature."""

from pathlib import Path

import pytest

from model import card as cards
from model import rows
from model.artifact import Loaded
from model.card import Card, Feature
from model.errors import CardError, InvalidRow

MIXED = Card(
    name="houses",
    kind="regressor",
    features=(
        Feature(name="area", unit="m²", minimum=20.0, maximum=400.0),
        Feature(name="heating", type="text", categories=("gas", "heat pump")),
        Feature(name="year", nullable=True),
    ),
    libraries={},
    sha256="ab" * 32,
)


def test_numbers_are_parsed_in_the_order_of_the_features(loaded: Loaded) -> None:
    assert rows.parse(loaded.card, ["5.1", "-3", " 1.4e0 ", "0"]) == [5.1, -3.0, 1.4, 0.0]


def test_a_wrong_count_names_all_features(loaded: Loaded) -> None:
    with pytest.raises(InvalidRow) as refused:
        rows.parse(loaded.card, ["1", "2"])
    assert str(refused.value) == (
        "iris wants 4 values (sepal_length, sepal_width, petal_length, petal_width), got 2"
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("abc", "'abc' is not a number"),
        ("", "'' is not a number"),
        ("1,5", "'1,5' is not a number"),
        ("1_5", "'1_5' is not a number"),
        ("nan", "'nan' is not a finite number"),
        ("-inf", "'-inf' is not a finite number"),
        ("1e999", "'1e999' is not a finite number"),
        ("x" * 100, f"'{'x' * 40}' is not a number"),
    ],
)
def test_a_value_that_is_no_finite_number_names_its_feature(
    loaded: Loaded, text: str, fault: str
) -> None:
    with pytest.raises(InvalidRow) as refused:
        rows.parse(loaded.card, ["5.1", text, "1.4", "0.2"])
    assert str(refused.value) == f"sepal_width: {fault}"


def test_texts_and_missing_values_follow_the_card() -> None:
    assert rows.parse(MIXED, ["80", "heat pump", ""]) == [80.0, "heat pump", None]
    with pytest.raises(InvalidRow, match="heating: 'coal' is none of: gas, heat pump"):
        rows.parse(MIXED, ["80", "coal", "1990"])


def test_a_card_knows_its_id_its_names_and_whether_it_is_numeric(loaded: Loaded) -> None:
    assert MIXED.id == "houses@abababababab"
    assert MIXED.names == ["area", "heating", "year"]
    assert (MIXED.numeric, loaded.card.numeric) == (False, True)


def test_hints_give_unit_and_range_or_the_categories() -> None:
    assert [f.hint for f in MIXED.features] == ["m², 20 to 400", "gas, heat pump", ""]
    assert Feature(name="age", unit="years", minimum=0.0).hint == "years"


def test_a_card_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "houses.json").write_bytes(cards.encode(MIXED))
    assert cards.read(tmp_path / "houses.joblib") == MIXED


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff", b'{"name": 1}'])
def test_a_missing_or_broken_card_says_how_to_make_one(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "iris.json").write_bytes(content)
    with pytest.raises(CardError, match="make one: petal train"):
        cards.read(tmp_path / "iris.joblib")
