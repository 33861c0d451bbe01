"""What a card says of its model, and how it is stored."""

from pathlib import Path

import pytest

from model import card as cards
from model.artifact import Loaded
from model.card import Card, Feature
from model.errors import CardError

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


def test_a_card_knows_its_id_its_names_and_whether_it_is_numeric(loaded: Loaded) -> None:
    assert MIXED.id == "houses@abababababab"
    assert MIXED.names == ["area", "heating", "year"]
    assert (MIXED.numeric, loaded.card.numeric) == (False, True)


def test_hints_give_unit_and_range_or_the_categories() -> None:
    assert [f.hint for f in MIXED.features] == ["m², 20 to 400", "gas, heat pump", ""]
    kinds = Feature(name="kind", type="text", seen=("Büro, groß", "flat", ""))
    assert kinds.hint == "'Büro, groß', flat, ''"
    assert Feature(name="age", unit="years", minimum=0.0).hint == "years"


def test_a_card_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "houses.json").write_bytes(cards.encode(MIXED))
    assert cards.read(tmp_path / "houses.joblib") == MIXED


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff", b'{"name": 1}'])
def test_a_missing_or_broken_card_says_how_to_create_one(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "iris.json").write_bytes(content)
    with pytest.raises(CardError, match="create one: petal train"):
        cards.read(tmp_path / "iris.joblib")
