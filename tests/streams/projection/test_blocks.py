"""What a chunk of `results` holds, and how it is stored."""

from pathlib import Path

import msgspec
import pytest

from streams.codec import encode
from streams.events import Position, Result
from streams.projection.reader import Audit, Reader, to_result
from streams.projection.store import Applied, Store
from tests.streams.projection.records import Record, apply, records, result


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b'{"v":1}',
        b"\xff",
        encode(result(0)).replace(b'"y":["setosa"],', b""),
        encode(result(0)).replace(b'"partition":0', b'"partition":99999999999999999999'),
        encode(result(0)).replace(b'"id":"', b'"id":"x'),
        encode(result(0)).replace(b'"model"', b'"input":"0123","model"'),
        encode(result(0)).replace(b'"host-1"', rb'"\ud800"'),
        encode(result(0)).replace(b"host-1", b"host\x00"),
        encode(result(0)).replace(b"host-1", b"host-\xed\xa0\x80"),
        encode(result(0)).replace(b'["setosa"]', b"[{}]"),
        encode(result(0)).replace(b"0.9", b"NaN"),
        encode(result(0)).replace(b"0.9", b"1e999"),
        encode(result(0)) + b"," + encode(result(0)),
        encode(result(0)) + b"\n" + encode(result(0)),
    ],
)
def test_a_record_that_is_no_result_is_kept_as_unreadable(path: Path, value: bytes | None) -> None:
    store = Store(path, "cluster")
    before, good = result(0), result(2)
    chunk = [Record(0, encode(before)), Record(1, value), Record(2, encode(good))]
    assert apply(store, 0, 0, chunk) == Applied(new=2, unreadable=1)
    with Reader(path) as reader:
        assert reader.audit() == Audit(2, 0, 1, 3)
        assert [to_result(row) for row in reader.between(1, 0, 0, 2)] == [before, good]
        assert reader.other_offsets(1, 0, 0, 2) == {1}


def test_values_that_only_together_are_results_are_unreadable_each(path: Path) -> None:
    # Joined by commas these are three results: one of the first two values, two of the third.
    answers = [encode(result(n)) for n in range(3)]
    opened, rest = b'{"v":1,"x":[0', b"0]," + answers[0].removeprefix(b'{"v":1,')
    both = answers[1] + b"," + answers[2]
    assert len(msgspec.json.decode(b"[" + b",".join([opened, rest, both]) + b"]")) == 3
    chunk = [Record(n, value) for n, value in enumerate([opened, rest, both])]
    assert apply(Store(path, "cluster"), 0, 0, chunk) == Applied(unreadable=3)


def test_a_value_that_would_pass_for_two_between_two_that_pass_for_one_is_unreadable(
    path: Path,
) -> None:
    # Each begins as a result does, and joined they are as many results as values.
    answers = [encode(result(n)) for n in range(3)]
    opened = answers[0].removesuffix(b"}") + b',"x":[0'
    rest = answers[1].removesuffix(b"}") + b"}]}"
    chunk = [Record(n, v) for n, v in enumerate([opened, rest, answers[1] + b"," + answers[2]])]
    joined = msgspec.json.decode(b"[" + b",".join(r.value or b"" for r in chunk) + b"]")
    assert len(joined) == 3
    assert apply(Store(path, "cluster"), 0, 0, chunk) == Applied(unreadable=3)


@pytest.mark.parametrize(
    "answer",
    [
        msgspec.structs.replace(result(0), model="a\0b", worker="\u2028\x85 \N{FOUR LEAF CLOVER}"),
        msgspec.structs.replace(result(0), y=[2**63, -(2**63), 2**64 - 1, True, 0.1], proba=None),
        msgspec.structs.replace(result(0), y=["x" * 3_000_000] * 2),
        msgspec.structs.replace(result(0), proba=[[5e-324, 1.7976931348623157e308, -0.0]]),
        msgspec.structs.replace(result(0), task=Position(2**31 - 1, 2**63 - 1)),
    ],
    ids=["odd text", "large integers", "huge value", "odd floats", "far position"],
)
def test_an_odd_answer_is_read_back_whole(path: Path, answer: Result) -> None:
    store = Store(path, "cluster")
    assert apply(store, 0, 0, records(result(0), answer, result(2))) == Applied(new=3)
    with Reader(path) as reader:
        row = reader.get(answer.id)
    assert row is not None
    assert to_result(row) == answer
    assert (row["worker"], row["task_offset"]) == (answer.worker, answer.task.offset)


def test_an_answer_in_another_notation_is_the_same_answer(path: Path) -> None:
    answer = result(0)
    fields = {"y": ["no"], **msgspec.to_builtins(answer), "proba": [[9e-1, 1e-1]]}
    spread = msgspec.json.format(encode(fields), indent=2).replace(b'"y"', rb'"\u0079"')
    twice = b'{"y": ["no"],' + spread.strip()[1:]
    store = Store(path, "cluster")
    assert apply(store, 0, 0, [Record(0, twice), Record(1, encode(answer))]) == Applied(1, 1)
    with Reader(path) as reader:
        row = reader.get(answer.id)
    assert row is not None
    assert to_result(row) == answer
    assert (row["y"], row["proba"]) == ('["setosa"]', "[[0.9,0.1]]")


def test_a_field_that_is_unknown_or_there_twice_is_not_stored(path: Path) -> None:
    answers = [result(n) for n in range(3)]
    values = [encode(answer) for answer in answers]
    values[0] = values[0].replace(b'"y":', b'"y":["no"],"y":')
    values[1] = values[1].replace(b'"offset":', b'"more":[1],"offset":')
    values[2] = values[2].replace(b'"y":', b'"input":null,"y":')
    apply(Store(path, "cluster"), 0, 0, [Record(n, value) for n, value in enumerate(values)])
    with Reader(path) as reader:
        assert [row["value"] for row in reader.between(1, 0, 0, 2)] == [
            encode(answer).decode() for answer in answers
        ]


def test_blocks_end_where_the_time_changes_or_the_log_has_a_hole(path: Path) -> None:
    answers = [result(n) for n in range(90)]
    offsets = [*range(50), *range(51, 91)]
    chunk = [Record(o, encode(a), 1000 + o // 80) for o, a in zip(offsets, answers, strict=True)]
    store = Store(path, "cluster")
    apply(store, 0, 0, chunk)
    with Reader(path) as reader:
        rows = list(reader.following(1, 0, 0, 1000))
        assert [row["task_id"] for row in rows] == [answer.id for answer in answers]
        assert [row["offset"] for row in rows] == offsets
        assert [row["answered_at_ms"] for row in rows] == [1000 + o // 80 for o in offsets]
        assert [row["offset"] for row in reader.between(1, 0, 49, 52)] == [49, 51, 52]
        assert [row["offset"] for row in reader.following(1, 0, 45, 3)] == [45, 46, 47]
        latest = [row["offset"] for row in reader.latest(25)]
        assert latest == offsets[::-1][:25]
        assert reader.get(answers[60].id) == rows[60]
