"""From record bytes to answers, without a broker."""

import json
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from model.artifact import Loaded
from model.card import Feature
from model.predict import predict
from model.train import describe, make_card
from streams.codec import decode_result, decode_results, input_digest
from streams.events import Failure, Position, Result, new_id
from streams.processing.decoder import DeadLetter
from streams.processing.processor import Processor
from streams.records import Columns
from tests.estimators import BROKEN, Breaker

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5], [6.3, 3.3, 6.0, 2.5]]
ID = "0b5a2b9e-8f4f-4d3a-9b1e-6a4c0d6f2a11"


@pytest.fixture(scope="module")
def processor(loaded: Loaded) -> Processor:
    return Processor(loaded, "host-1", max_rows=10)


def task(X: Any, **fields: Any) -> dict[str, Any]:
    return {"v": 1, "id": ID, "X": X, "at": 1763920000.0, **fields}


def batch(*values: Any, keys: Sequence[bytes | None] | None = None, first: int = 40) -> Columns:
    raw = [v if v is None or isinstance(v, bytes) else json.dumps(v).encode() for v in values]
    return Columns(range(first, first + len(raw)), keys or [ID.encode()] * len(raw), raw)


def errors(processor: Processor, *values: Any) -> list[Failure | None]:
    processed = processor.process(2, batch(*values))
    assert processed.dead_letters == []
    return [decode_result(value).error for _, value in processed.results]


def many(count: int) -> tuple[list[str], Columns]:
    ids = [new_id() for _ in range(count)]
    tasks = [task([ROWS[n % 3]], id=i) for n, i in enumerate(ids)]
    return ids, batch(*tasks, keys=[i.encode() for i in ids])


def test_each_task_gets_its_own_rows_answer_in_order(processor: Processor, loaded: Loaded) -> None:
    ids = [new_id(), new_id()]
    asked = [task(ROWS[:1], id=ids[0]), task(ROWS[1:], id=ids[1])]
    processed = processor.process(2, batch(*asked, keys=[i.encode() for i in ids]))
    assert [key.decode() for key, _ in processed.results] == ids
    results = [decode_result(value) for _, value in processed.results]
    y, proba, _ = predict(loaded.model, np.array(ROWS))
    assert proba is not None
    expected = [
        Result(
            v=1, id=i, y=y[part], proba=proba[part], input=input_digest(ROWS[part]),
            model=loaded.card.id, worker="host-1", task=Position(2, offset), ms=result.ms,
        )
        for i, offset, part, result in zip(
            ids, (40, 41), (slice(0, 1), slice(1, 3)), results, strict=True
        )
    ]  # fmt: skip
    assert results == expected
    assert all(result.ms.queue > 0 and result.ms.infer > 0 for result in results)


def test_the_time_of_a_chunk_is_estimated_from_its_size_not_from_its_records(
    loaded: Loaded,
) -> None:
    processor = Processor(loaded, "host-1", max_rows=1000)
    few = many(4)[1]
    assert processor.estimate_seconds(few) == math.inf
    processor.process(0, few)
    guess = processor.estimate_seconds(few)
    large = batch(*[task(ROWS * 300) for _ in few.values])
    assert processor.estimate_seconds(large) > 50 * guess


def test_one_bad_record_changes_no_neighbours_answer(processor: Processor) -> None:
    ids, good = many(50)
    alone = [decode_result(v).y for _, v in processor.process(0, good).results]
    values = [*good.values[:20], b"{", *good.values[20:]]
    keys = [*good.keys[:20], b"poison", *good.keys[20:]]
    mixed = processor.process(0, Columns(range(51), keys, values))
    assert [key.decode() for key, _ in mixed.results] == ids
    assert [decode_result(v).y for _, v in mixed.results] == alone
    offsets = [decode_result(v).task.offset for _, v in mixed.results]
    assert offsets == [*range(20), *range(21, 51)]
    assert mixed.dead_letters == [DeadLetter(b"poison", b"{", 20, "bad_json")]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty_value"),
        (None, "tombstone"),
        (b"{", "bad_json"),
        (b'{"a":"\xff"}', "bad_utf8"),
        ('{"v":1}'.encode("utf-16"), "bad_utf8"),
        (b"\xef\xbb\xbf{}", "bad_json"),
        (b"[" * 200_000, "too_deep"),
        (json.dumps(task(ROWS)).encode() + b"x", "bad_json"),
        (b"null", "not_an_object"),
        (b"[]", "not_an_object"),
        (b'"x"', "not_an_object"),
        (b"3", "not_an_object"),
        (b"{}", "bad_id"),
        (b'{"v":1,"id":7,"X":[[1,2,3,4]],"at":1}', "bad_id"),
        (json.dumps(task(ROWS, id=ID.upper())).encode(), "bad_id"),
        (json.dumps(task(ROWS, id=ID[:-1])).encode(), "bad_id"),
    ],
)
def test_what_has_no_id_to_answer_to_is_a_dead_letter_with_its_bytes_unchanged(
    processor: Processor, value: bytes | None, reason: str
) -> None:
    processed = processor.process(2, batch(value))
    assert processed.results == []
    assert processed.dead_letters == [DeadLetter(ID.encode(), value, 40, reason)]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (task([]), "no_rows"),
        (task(ROWS * 4), "too_many_rows"),
        (task([[1, 2, 3]]), "wrong_width"),
        (task([[1, 2, 3, 4], [1, 2, 3]]), "wrong_width"),
        (task([1, 2, 3, 4]), "wrong_shape"),
        (task({"a": 1}), "wrong_shape"),
        (task([["1.5", 2, 3, 4]]), "wrong_type"),
        (task([[True, 2, 3, 4]]), "wrong_type"),
        (task([[None, 2, 3, 4]]), "wrong_type"),
        (task([[{}, 2, 3, 4]]), "wrong_type"),
        (task([[float("nan"), 2, 3, 4]]), "not_finite"),
        (task([[float("-inf"), 2, 3, 4]]), "not_finite"),
        (json.dumps(task([[1e300, 2, 3, 4]])).replace("1e+300", "1e999").encode(), "not_finite"),
        (task(ROWS, v=99), "unsupported_version"),
        (task(ROWS, v="1"), "wrong_type"),
        (task(ROWS, v=True), "wrong_type"),
        (task(ROWS, at="now"), "wrong_type"),
        (task(ROWS, model="other"), "unknown_model"),
        (task([[1e308] * 4]), "predict_failed"),
        ({"v": 1, "id": ID, "at": 1}, "missing_field"),
        ({"v": 1, "id": ID, "X": ROWS}, "missing_field"),
        ({"id": ID, "X": ROWS, "at": 1}, "missing_field"),
    ],
)
def test_what_can_be_read_but_not_predicted_gets_an_error(
    processor: Processor, value: Any, code: str
) -> None:
    [failure] = errors(processor, value)
    assert failure is not None
    assert failure.code == code
    assert failure.message


def test_the_error_names_what_came_and_what_the_model_takes(processor: Processor) -> None:
    assert errors(processor, task([[1, 2, 3, 4, 5]])) == [
        Failure(
            "wrong_width",
            "got 5 values, iris takes 4: sepal_length, sepal_width, petal_length, petal_width",
        )
    ]


def test_a_record_whose_key_is_not_its_id_gets_an_error(processor: Processor) -> None:
    processed = processor.process(2, batch(task(ROWS), keys=[new_id().encode()]))
    [(key, value)] = processed.results
    error = decode_result(value).error
    assert (key, error and error.code) == (ID.encode(), "key_mismatch")


def test_a_record_without_a_key_is_answered(processor: Processor) -> None:
    [(key, value)] = processor.process(2, batch(task(ROWS[:1]), keys=[None])).results
    assert (key, decode_result(value).y) == (ID.encode(), ["setosa"])


def test_two_tasks_in_one_value_do_not_pass_for_two_records(processor: Processor) -> None:
    one = json.dumps(task(ROWS)).encode()
    processed = processor.process(2, batch(one + b"," + one, one))
    assert [letter.reason for letter in processed.dead_letters] == ["bad_json"]
    assert len(processed.results) == 1
    processed = processor.process(2, batch(one + b"," + one))
    assert processed.results == []


def test_a_task_that_the_model_fails_on_is_found_among_many(processor: Processor) -> None:
    ids, good = many(33)
    values = list(good.values)
    values[17] = json.dumps(task([[1e308] * 4], id=ids[17])).encode()
    processed = processor.process(0, Columns(good.offsets, good.keys, values))
    failed = [key.decode() for key, v in processed.results if decode_result(v).error]
    assert failed == [ids[17]]
    assert [key.decode() for key, _ in processed.results] == ids


def test_unknown_fields_are_ignored_so_that_the_contract_can_grow(processor: Processor) -> None:
    assert errors(processor, task(ROWS, trace="x")) == [None]


def test_an_answer_too_long_for_a_message_becomes_an_error(
    processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.processing.processor.MAX_RESULT_BYTES", 300)
    ids = [new_id(), new_id()]
    asked = batch(task(ROWS[:1], id=ids[0]), task(ROWS, id=ids[1]), keys=[i.encode() for i in ids])
    short, long = (decode_result(v) for _, v in processor.process(0, asked).results)
    assert short.y == ["setosa"]
    assert long.error is not None
    assert (long.id, long.error.code) == (ids[1], "result_too_large")


def test_results_are_json_with_the_fields_of_the_contract(processor: Processor) -> None:
    [(_, value)] = processor.process(2, batch(task(ROWS[:1]))).results
    names = ["v", "id", "y", "proba", "input", "model", "worker", "task", "ms"]
    assert list(msgspec.json.decode(value)) == names


def test_a_result_has_the_digest_of_its_rows_however_the_chunk_was_decoded(
    processor: Processor,
) -> None:
    asked = [ROWS[:1], ROWS[1:2], ROWS[:2], [[1.0]]]
    for chosen in (asked[:2], asked[:3], asked):  # a row each, several rows, one refused
        results = processor.process(0, batch(*map(task, chosen))).results
        digests = [decode_result(value).input for _, value in results]
        assert digests == [input_digest(X) for X in chosen]


def test_a_chunks_answers_can_be_read_back_in_one_go(processor: Processor) -> None:
    processed = processor.process(2, batch(task(ROWS), task([[1.0]]), task(ROWS[:1], v=2)))
    values = [value for _, value in processed.results]
    one_by_one = [decode_result(value) for value in values]
    assert decode_results(values) == one_by_one


@pytest.mark.parametrize("kind", sorted(BROKEN))
def test_a_task_that_fails_in_an_unforeseen_way_is_found_and_all_others_are_answered(
    kind: str,
) -> None:
    X = np.arange(8.0).reshape(4, 2)
    model = Breaker(kind).fit(X, X[:, 0])
    card = make_card("breaker", model, describe(X, ["a", "b"]))
    processor = Processor(Loaded(model, card), "host-1", max_rows=10)
    ids = [new_id() for _ in range(9)]
    rows = [[13.0 if n == 5 else float(n), 1.0] for n in range(9)]
    tasks = [task([row], id=i) for row, i in zip(rows, ids, strict=True)]
    processed = processor.process(0, batch(*tasks, keys=[i.encode() for i in ids]))
    results = [decode_result(value) for _, value in processed.results]
    assert [(r.id, r.task.offset) for r in results] == list(zip(ids, range(40, 49), strict=True))
    code = BROKEN[kind]
    assert {r.id: r.error.code for r in results if r.error} == ({ids[5]: code} if code else {})
    answered = [row[0] for row in rows if row[0] != 13.0 or not code]
    assert [r.y for r in results if r.error is None] == [[label] for label in answered]


def test_a_text_that_json_cannot_hold_fails_for_its_own_task_alone() -> None:
    model = Breaker().fit([[1.0, 2.0]], [1.0])
    features = [Feature(name="kind", type="text", categories=("a",)), Feature(name="size")]
    card = make_card("texts", model, features)
    processor = Processor(Loaded(model, card), "host-1", max_rows=10)
    raw = b'{"v":1,"id":"%s","X":[["\\ud800",1]],"at":1}' % ID.encode()
    results = [decode_result(v) for _, v in processor.process(0, batch(raw, raw)).results]
    assert [r.error is not None for r in results] == [True, True]


def test_a_value_that_is_too_large_after_decompression_is_not_parsed(processor: Processor) -> None:
    large = b'{"v":1,"id":"%s","X":[%s' % (ID.encode(), b"[1,2,3,4]," * 500_000)
    processed = processor.process(0, batch(task(ROWS[:1]), large, task(ROWS[:1])))
    assert [decode_result(value).task.offset for _, value in processed.results] == [40, 42]
    assert processed.dead_letters == [DeadLetter(ID.encode(), large, 41, "too_large")]
