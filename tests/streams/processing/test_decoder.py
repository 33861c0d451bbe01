"""The rule for a valid row holds for tasks of any producer."""

import json
from typing import Any

import pytest

from model import rows
from model.card import Card, Feature
from model.errors import InvalidRow
from streams.codec import input_digest
from streams.events import Failure, new_id
from streams.processing.decoder import Decoded, Decoder
from streams.records import Columns

CARD = Card(
    name="voyage",
    kind="classifier",
    features=(
        Feature(name="class", type="text", categories=("first", "second")),
        Feature(name="age", nullable=True),
        Feature(name="fare"),
        Feature(name="cabin", type="text", nullable=True),
    ),
    libraries={},
    sha256="0" * 64,
)
GOOD = ["first", 31.5, 7, "C85"]
VALID = [GOOD, ["second", None, 0, None], ["first", -1, 1e300, ""]]
INVALID: list[tuple[Any, str]] = [
    (["third", 31.5, 7, "C85"], "unknown_category"),
    (["First", 31.5, 7, "C85"], "unknown_category"),
    (["", 31.5, 7, "C85"], "unknown_category"),
    ([None, 31.5, 7, "C85"], "wrong_type"),
    ([1.5, 31.5, 7, "C85"], "wrong_type"),
    (["first", "31.5", 7, "C85"], "wrong_type"),
    (["first", 31.5, None, "C85"], "wrong_type"),
    (["first", 31.5, "7", "C85"], "wrong_type"),
    (["first", 31.5, True, "C85"], "wrong_type"),
    (["first", 31.5, {}, "C85"], "wrong_type"),
    (["first", 31.5, [7], "C85"], "wrong_type"),
    (["first", 31.5, 7, 85.5], "wrong_type"),
    (["first", 31.5, float("nan"), "C85"], "not_finite"),
    (["first", float("inf"), 7, "C85"], "not_finite"),
    (["first", 31.5, 10**400, "C85"], "not_finite"),
    (["first", 31.5, 7], "wrong_width"),
    ([*GOOD, 1], "wrong_width"),
    ([], "wrong_width"),
    ("first", "wrong_shape"),
    (None, "wrong_shape"),
]


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(CARD, max_rows=3)


def decode(decoder: Decoder, *tables: Any) -> Decoded:
    ids = [new_id() for _ in tables]
    tasks = [{"v": 1, "id": i, "X": X, "at": 1.0} for i, X in zip(ids, tables, strict=True)]
    values = [json.dumps(task).encode() for task in tasks]
    return decoder.decode(Columns(range(len(ids)), [i.encode() for i in ids], values))


def fault(X: Any) -> Failure:
    """The error of every other door for these rows."""
    with pytest.raises(InvalidRow) as raised:
        rows.check(CARD, X)
    return Failure(raised.value.code, str(raised.value))


def test_valid_rows_are_decoded_as_they_are(decoder: Decoder) -> None:
    decoded = decode(decoder, VALID, [GOOD])
    batch = decoded.batch
    assert [task.X for task in batch.tasks] == [VALID, [GOOD]]
    assert (list(batch.offsets), batch.counts, batch.rows) == ([0, 1], [3, 1], [*VALID, GOOD])
    assert (decoded.invalid, decoded.dead_letters) == ([], [])


@pytest.mark.parametrize(("row", "code"), INVALID)
def test_a_row_that_is_refused_elsewhere_is_refused_here(
    decoder: Decoder, row: Any, code: str
) -> None:
    X = [GOOD, row]
    decoded = decode(decoder, [GOOD], X, [GOOD])
    [(offset, task)] = decoded.invalid
    assert (offset, task.failure) == (1, fault(X))
    assert task.failure.code == code
    assert decoded.batch.offsets == [0, 2]


def test_the_digest_of_refused_rows_is_known_where_they_are_of_the_contracts_types(
    decoder: Decoder,
) -> None:
    unknown = [["third", None, 7, "C85"]]
    decoded = decode(decoder, unknown, [["first", 1, True, None]])
    assert [task.digest for _, task in decoded.invalid] == [input_digest(unknown), None]


@pytest.mark.parametrize(("X", "code"), [([], "no_rows"), ([GOOD] * 4, "too_many_rows")])
def test_the_number_of_rows_is_checked_before_the_rows(
    decoder: Decoder, X: list[Any], code: str
) -> None:
    [(_, task), (_, unread)] = decode(decoder, X, [*X, *[[True]] * len(X)]).invalid
    assert (task.failure.code, unread.failure.code) == (code, code)


def test_what_only_json_readers_accept_has_a_code_too(decoder: Decoder) -> None:
    value = json.dumps({"v": 1, "id": new_id(), "X": [["first", 1, 2, "\ud800"]], "at": 1.0})
    [(_, task)] = decoder.decode(Columns([0], [None], [value.encode()])).invalid
    assert task.failure.code == "wrong_type"
