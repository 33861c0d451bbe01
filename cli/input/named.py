"""A row of named values: `kind=house "living area"=80`, or a JSON object."""

import shlex
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from cli.input.layout import key_of, listed, value_of
from model import rows
from model.card import Card, Value
from model.errors import InvalidRow

SHOWN = 40  # characters of a word in a sentence


def parse(card: Card, text: str) -> list[Value]:
    """The row of a text, in the order of the card's features.

    A feature that may be missing need not be named. Names that differ in case, spaces or dashes
    are the same. Raises InvalidRow.
    """
    if text.lstrip().startswith("{"):
        return from_object(card, _object(text))
    given = _by_feature(card, (_split(card, word) for word in _words(text)))
    return [
        value_of(feature, given[feature.name]) if feature.name in given else None
        for feature in card.features
    ]


def from_object(card: Card, document: Mapping[str, Any], others: bool = False) -> list[Value]:
    """The row of a JSON object with the features' names; raises InvalidRow.

    `others`: it may have other names too.
    """
    names = set(map(key_of, card.names)) if others else set()
    given = _by_feature(
        card, ((n, v) for n, v in document.items() if not others or key_of(n) in names)
    )
    row = [given.get(name) for name in card.names]
    for feature, value in zip(card.features, row, strict=True):
        rows.check_value(feature, value)
    return row


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as e:
        raise InvalidRow(
            "wrong_shape",
            f"a quote in {text[:SHOWN]!r} is not closed; quote a text that has one: "
            '"name=O\'Brien"',
        ) from e


def _split(card: Card, word: str) -> tuple[str, str]:
    """The name and the value of a word. A name may contain `=`: the longest known one counts."""
    known = set(map(key_of, card.names))
    ends = [n for n, character in enumerate(word) if character == "="]
    if not ends:
        raise InvalidRow(
            "wrong_shape",
            f'{word[:SHOWN]!r} is not name=value; quote a value with spaces: name="two words"',
        )
    end = next((n for n in reversed(ends) if key_of(word[:n]) in known), ends[0])
    return word[:end], word[end + 1 :]


def _by_feature(card: Card, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The values by the features' names; raises InvalidRow for names that are not the card's."""
    names = {key_of(name): name for name in card.names}
    given: dict[str, Any] = {}
    for name, value in pairs:
        known = names.get(key_of(name))
        if known is None:
            raise InvalidRow("wrong_shape", _unknown(card, name))
        if known in given:
            raise InvalidRow("wrong_shape", f"{known} has two values; give one")
        given[known] = value
    missing = [f.name for f in card.features if f.name not in given and not f.nullable]
    if missing:
        raise InvalidRow("wrong_width", f"no value for: {listed(missing)}")
    return given


def _unknown(card: Card, name: str) -> str:
    near = get_close_matches(name, card.names, n=1)
    cure = f"did you mean {near[0]}?" if near else f"it has: {listed(card.names)}"
    return f"{card.name} has no feature {name[:SHOWN]!r}; {cure}"


def _object(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        raise InvalidRow("wrong_shape", f"{text[:SHOWN]!r} is not a JSON object: {e}") from e
