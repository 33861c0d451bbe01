"""Usual requests are read in one step, with the same result as the general parser gives."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.inference.fast_request import FastParser
from api.inference.request import ParsedRequest, parse
from model.artifact import Loaded
from model.card import Feature

ROW = [5.1, 3.5, 1.4, 0.2]
TENSOR = {"name": "X", "shape": [1, 4], "datatype": "FP64", "data": ROW}
MAX_ROWS = 3


def comparable(parsed: ParsedRequest) -> tuple[Any, ...]:
    X = parsed.X
    return X.dtype, X.shape, X.tobytes(), list(parsed.outputs.items()), parsed.id


NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**70), 2**70)
)  # fmt: skip
TEXTS = st.sampled_from(["", "X", "é", '"'])
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, "1", "\ud800", [], [1], float("nan"), {}, [[1.0]]]
)


def sometimes(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Nearly always as it should be, else odd."""
    return st.integers(0, 30).flatmap(lambda n: usual if n else ODD)


def rarely(*values: Any) -> st.SearchStrategy[Any]:
    """Nearly always None."""
    return st.sampled_from([*values, *[None] * 15])


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Any]:
    rows = draw(st.integers(0, MAX_ROWS + 1))
    nested = [draw(st.lists(NUMBERS, min_size=4, max_size=4)) for _ in range(rows)]
    if nested:
        nested[-1][0] = draw(sometimes(NUMBERS))
    data: Any = nested if draw(st.booleans()) else [value for row in nested for value in row]
    tensor = {
        "name": draw(sometimes(TEXTS)),
        "shape": [draw(sometimes(st.just(rows))), draw(sometimes(st.just(4)))],
        "datatype": draw(sometimes(st.sampled_from(["FP64", "FP32", "FP16"]))),
        "data": draw(sometimes(st.just(data))),
    }
    return {**tensor, "parameters": draw(rarely({}, True))}


OUTPUT = st.fixed_dictionaries(
    {"name": sometimes(st.sampled_from(["predict", "predict_proba"]))},
    optional={"parameters": rarely({}, {"binary_data": True})},
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": sometimes(st.tuples(tensors()))},
    optional={
        "id": sometimes(TEXTS),
        "parameters": rarely({}, {"binary_data_output": True}),
        "outputs": sometimes(st.lists(OUTPUT, max_size=3)),
    },
)


@settings(max_examples=300)
@given(REQUESTS)
def test_the_fast_parser_gives_the_same_as_the_general_one(
    loaded: Loaded, request: dict[str, Any]
) -> None:
    body = json.dumps(request).encode()
    parsed = FastParser(loaded.card).parse(body, MAX_ROWS)
    if parsed is not None:
        general = parse(body, loaded.card, MAX_ROWS)
        assert comparable(parsed) == comparable(general)


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [TENSOR]},
        {"inputs": [{**TENSOR, "data": [ROW]}]},
        {"inputs": [{**TENSOR, "shape": [2, 4], "data": [ROW, [1, 2, 3, 4]]}], "id": "1"},
        {"inputs": [{**TENSOR, "datatype": "FP32"}], "outputs": []},
        {"inputs": [TENSOR], "outputs": [{"name": "predict_proba"}, {"name": "predict"}]},
    ],
)
def test_the_fast_parser_takes_usual_requests(loaded: Loaded, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    parsed = FastParser(loaded.card).parse(data, MAX_ROWS)
    assert parsed is not None
    assert comparable(parsed) == comparable(parse(data, loaded.card, MAX_ROWS))


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff",
        b'{"inputs":' + b"[" * 100_000,
        json.dumps({"inputs": [TENSOR, TENSOR]}).encode(),
        json.dumps({"inputs": [{**TENSOR, "data": [ROW[:3], [1]]}]}).encode(),
        json.dumps({"inputs": [{**TENSOR, "data": [[ROW]]}]}).encode(),
        json.dumps({"inputs": [{**TENSOR, "data": [ROW[:2], ROW[2:]]}]}).encode(),
        json.dumps({"inputs": [TENSOR], "outputs": [{"name": "others"}]}).encode(),
        json.dumps({"inputs": [TENSOR]}).replace("5.1", "1e999").encode(),
    ],
)
def test_the_fast_parser_leaves_unusual_and_wrong_requests_to_the_general_one(
    loaded: Loaded, body: bytes
) -> None:
    assert FastParser(loaded.card).parse(body, MAX_ROWS) is None


def test_the_fast_parser_takes_nothing_for_a_model_of_texts_or_missing_numbers(
    loaded: Loaded,
) -> None:
    features = tuple(Feature(name=name, nullable=True) for name in "abcd")
    card = msgspec.structs.replace(loaded.card, features=features)
    assert FastParser(card).parse(json.dumps({"inputs": [TENSOR]}).encode(), MAX_ROWS) is None


def test_of_a_repeated_name_the_last_value_counts_for_both_parsers(loaded: Loaded) -> None:
    body = json.dumps({"inputs": [TENSOR]}).encode()
    twice = body.replace(b'"data":', b'"data": [9, 9, 9, 9], "data":')
    fast = FastParser(loaded.card).parse(twice, MAX_ROWS)
    assert fast is not None
    assert fast.X.tolist() == parse(twice, loaded.card, MAX_ROWS).X.tolist()
    assert fast.X.tolist() == parse(body, loaded.card, MAX_ROWS).X.tolist()
