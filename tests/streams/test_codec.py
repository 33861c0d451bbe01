"""The contract, to the byte."""

import json
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import codec, events
from streams.codec import ResultColumns
from streams.events import Failure, Position, Result, TableTask, Task, Timings

ID = "0b5a2b9e-8f4f-4d3a-9b1e-6a4c0d6f2a11"
TASK = b'{"v":1,"id":"%s","X":[[5.1,3.5,1.4,0.2]],"at":1763920000.123}' % ID.encode()
RESULT = (
    b'{"v":1,"id":"%s","y":["setosa"],"proba":[[0.98,0.02,0.0]],"model":"iris@0123456789ab",'
    b'"worker":"host-42","task":{"partition":2,"offset":1041},"ms":{"queue":1.9,"infer":0.4}}'
) % ID.encode()
ERROR = (
    b'{"v":1,"id":"%s","error":{"code":"wrong_width",'
    b'"message":"got 5 features, the model wants 4"},'
    b'"model":"iris@0123456789ab","worker":"host-42","task":{"partition":2,"offset":1041},'
    b'"ms":{"queue":1.9,"infer":0.4}}'
) % ID.encode()


def answer(**fields: Any) -> Result:
    return Result(
        v=1, id=ID, model="iris@0123456789ab", worker="host-42",
        task=Position(2, 1041), ms=Timings(1.9, 0.4), **fields,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("message", "encoded"),
    [
        (Task(v=1, id=ID, X=[[5.1, 3.5, 1.4, 0.2]], at=1763920000.123), TASK),
        (answer(y=["setosa"], proba=[[0.98, 0.02, 0.0]]), RESULT),
        (answer(error=Failure("wrong_width", "got 5 features, the model wants 4")), ERROR),
    ],
)
def test_messages_are_on_the_wire_as_the_contract_says(
    message: Task | Result, encoded: bytes
) -> None:
    assert codec.encode(message) == encoded
    assert msgspec.json.decode(encoded, type=type(message)) == message
    jsonschema.validate(json.loads(encoded), msgspec.json.schema(type(message)))


NOT_SERVED = Failure("unknown_model", "this pipeline serves iris@0123456789ab")


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        (None, {"y": ["setosa"]}, True),
        ("iris", {"y": ["setosa"]}, True),
        ("iris@0123456789ab", {"y": ["setosa"]}, True),
        ("iris@3", {"y": ["setosa"]}, True),
        ("iris@ba9876543210", {"y": ["setosa"]}, False),
        ("rent", {"y": ["setosa"]}, False),
        ("rent@3", {"y": ["setosa"]}, False),
        ("iris2", {"y": ["setosa"]}, False),
        ("rent", {"error": NOT_SERVED}, True),
        ("rent", {"error": Failure("wrong_width", "got 5 values")}, False),
        (None, {"y": ["setosa"], "input": "1" * 16}, False),
        (None, {"y": ["setosa"], "input": "0" * 16}, True),
    ],
)
def test_a_result_is_that_of_a_task_with_these_rows_and_this_model(
    model: str | None, fields: dict[str, Any], expected: bool
) -> None:
    assert codec.is_result_of(answer(**fields), "0" * 16, model) is expected


@pytest.mark.parametrize(
    ("value", "model"),
    [
        (TASK, None),
        (TASK[:-1] + b',"model":"rent@3"}', "rent@3"),
        (TASK[:-1] + b',"model":null}', None),
        (TASK[:-1] + b',"model":7}', None),
        (TASK[:-1] + rb',"mod\u0065l":"rent"}', "rent"),
        (TASK[:-1] + b',"model":"one","model":"two"}', "two"),
        (b'{"X":[[NaN]],"model":"rent"}', "rent"),
        (b'{"X":[["model"]]}', None),
        (b'[{"model":"rent"}]', None),
        (b'{"model":"rent"', None),
        (b'{"model":"\xff"}', None),
        (b'{"model":' * 100_000, None),
        (b"", None),
    ],
)
def test_the_model_that_a_task_names_is_read_as_far_as_it_can_be(
    value: bytes, model: str | None
) -> None:
    assert codec.named_model(value) == model
    assert codec.named_models([ID.encode(), None], [value, TASK]) == [model, None]


@pytest.mark.parametrize("field", ["id", "v"])
def test_the_schema_refuses_what_the_decoder_refuses(field: str) -> None:
    for kind, encoded in ((Task, TASK), (Result, RESULT)):
        message = {**json.loads(encoded), field: "x" * 36}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(message, msgspec.json.schema(kind))


def test_a_regressors_answer_holds_numbers_and_no_probabilities() -> None:
    fields = json.loads(codec.encode(answer(y=[2.5, 3.0])))
    expected = {key: value for key, value in json.loads(RESULT).items() if key != "proba"}
    assert fields == expected | {"y": [2.5, 3.0]}


def test_a_table_task_carries_texts_and_missing_values() -> None:
    task = TableTask(v=1, id=ID, X=[["red", None, 1.5]], at=1.0, model="houses")
    assert msgspec.json.decode(codec.encode(task), type=TableTask) == task


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"5.1", b'"5.1"'),
        (b"5.1", b"true"),
        (b"5.1", b"null"),
        (b"5.1", b"NaN"),
        (b"5.1", b"1e999"),
        (b"[[5.1,3.5,1.4,0.2]]", b"[5.1,3.5,1.4,0.2]"),
        (b'"v":1', b'"v":2'),
        (b'"v":1', b'"v":true'),
        (b'"v":1,', b""),
        (b'"at":1763920000.123', b'"at":"now"'),
    ],
)
def test_a_task_is_decoded_strictly(old: bytes, new: bytes) -> None:
    assert old in TASK
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(TASK.replace(old, new), type=Task)


def test_numbers_come_in_any_notation() -> None:
    task = msgspec.json.decode(TASK.replace(b"5.1", b"5").replace(b"0.2", b"2e-1"), type=Task)
    assert task.X == [[5.0, 3.5, 1.4, 0.2]]


@pytest.mark.parametrize(
    "text", ["", ID.upper(), ID[:-1], ID + "0", ID.replace("-4d3a", "-1d3a"), ID + "\n", "x" * 36]
)
def test_only_lower_case_uuid4_are_ids(text: str) -> None:
    assert not events.is_id(text)
    assert not events.are_ids([ID, text])
    with pytest.raises(msgspec.ValidationError):
        codec.decode_result(RESULT.replace(ID.encode(), json.dumps(text)[1:-1].encode()))


def test_new_ids_are_ids_and_differ() -> None:
    ids = [events.new_id() for _ in range(100)]
    assert events.are_ids(ids)
    assert len(set(ids)) == 100


def test_the_schema_has_the_pattern_of_an_id() -> None:
    components = msgspec.json.schema_components([Task, Result])[1]
    patterns = {
        name: components[name]["properties"]["id"]["pattern"] for name in ("Task", "Result")
    }
    assert set(patterns.values()) == {f"^{events._UUID4}$"}


def test_the_input_digest_is_of_the_numbers_and_not_of_their_notation() -> None:
    assert codec.input_digest([[1, 2.5]]) == "98eb799f799c2713"
    assert codec.input_digest([[1.0, 2.5]]) == codec.input_digest([[1, 2.5]])
    assert codec.input_digest([[2.5, 1]]) != codec.input_digest([[1, 2.5]])
    mixed = codec.input_digest([["red", 1, None]])
    assert mixed == codec.input_digest([["red", 1.0, None]])
    assert mixed != codec.input_digest([["red", None, 1]])


numbers = st.floats(allow_nan=False, allow_infinity=False)
labels = st.text() | st.integers(-(2**63), 2**63 - 1) | numbers | st.booleans()
answers = st.tuples(
    st.builds(events.new_id),
    st.lists(labels, max_size=3),
    st.lists(st.lists(numbers, max_size=3), max_size=3),
    st.lists(numbers, max_size=3),
    st.from_regex("[0-9a-f]{16}", fullmatch=True),
    st.integers(0, 2**63 - 1),
    numbers,
)


@given(
    st.lists(answers, min_size=1, max_size=4),
    st.booleans(), st.booleans(), st.text(max_size=5), numbers,
)  # fmt: skip
def test_a_chunk_is_encoded_as_its_results_one_by_one_would_be(
    rows: list[Any], has_proba: bool, has_score: bool, name: str, infer_ms: float
) -> None:
    ids, y, proba, score, digests, offsets, queue_ms = zip(*rows, strict=True)
    columns = ResultColumns(
        [i.encode() for i in ids],
        y,
        proba if has_proba else None,
        score if has_score else None,
        None,
        digests,
        offsets,
        queue_ms,
    )
    one_by_one = [
        codec.encode(
            Result(
                v=1, id=i, y=labels, proba=p if has_proba else None,
                score=s if has_score else None, input=digest, model=name, worker=f"{name}-1",
                task=Position(2, offset), ms=Timings(queue, infer_ms),
            )
        )
        for i, labels, p, s, digest, offset, queue in rows
    ]  # fmt: skip
    assert codec.encode_columns(columns, 2, name, f"{name}-1", infer_ms) == one_by_one
