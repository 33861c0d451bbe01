"""Whatever bytes come, each record gets exactly one end, and none touches its neighbours."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.artifact import Loaded
from streams.codec import decode_result, encode
from streams.events import Result, new_id
from streams.processing.processor import Processed, Processor
from streams.records import Columns

GOOD_ID = "0b5a2b9e-8f4f-4d3a-9b1e-6a4c0d6f2a11"
GOOD_ROW = [5.1, 3.5, 1.4, 0.2]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
# A task of which one field is anything at all, or absent, or stands beside an unknown one.
broken_tasks = st.builds(
    lambda field, value, drop: {
        **{k: v for k, v in task(new_id()).items() if not (drop and k == field)},
        **({} if drop else {field: value}),
    },
    st.sampled_from(["v", "id", "X", "at", "model", "extra"]),
    json_values | st.just([GOOD_ROW]) | st.lists(st.lists(st.floats(), max_size=5), max_size=3),
    st.booleans(),
)
values = st.one_of(
    st.none(),
    st.binary(max_size=60),
    json_values.map(lambda value: json.dumps(value).encode()),
    broken_tasks.map(lambda value: json.dumps(value).encode()),
    st.builds(lambda: encode(task(new_id()))),
)


def task(task_id: str) -> dict[str, Any]:
    return {"v": 1, "id": task_id, "X": [GOOD_ROW], "at": 1763920000.0}


def check_ends(processed: Processed, batch: Columns) -> None:
    """Each offset in exactly one end, in order; results are valid; letters are unchanged."""
    results = [(key, decode_result(value)) for key, value in processed.results]
    offsets = [result.task.offset for _, result in results]
    letters = [letter.offset for letter in processed.dead_letters]
    assert sorted(offsets + letters) == list(batch.offsets)
    assert offsets == sorted(offsets)
    assert letters == sorted(letters)
    for key, result in results:
        assert key == result.id.encode()
        assert (result.y is None) != (result.error is None)
    first = batch.offsets[0]
    for letter in processed.dead_letters:
        assert letter.value == batch.values[letter.offset - first]
        assert letter.reason


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chunk=st.lists(values, min_size=1, max_size=12), keyed=st.booleans())
def test_every_record_gets_exactly_one_end(
    loaded: Loaded, chunk: list[bytes | None], keyed: bool
) -> None:
    processor = Processor(loaded, "host-1", max_rows=3)
    keys = [id_in(value) if keyed else None for value in chunk]
    batch = Columns(range(7, 7 + len(chunk)), keys, chunk)
    check_ends(processor.process(3, batch), batch)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(before=st.lists(values, max_size=5), after=st.lists(values, max_size=5))
def test_a_good_task_gets_its_answer_whatever_stands_around_it(
    loaded: Loaded, before: list[bytes | None], after: list[bytes | None]
) -> None:
    processor = Processor(loaded, "host-1", max_rows=3)
    good = encode(task(GOOD_ID))
    chunk = [*before, good, *after]
    keys = [GOOD_ID.encode() if value is good else None for value in chunk]
    processed = processor.process(0, Columns(range(len(chunk)), keys, chunk))
    [found] = [
        result
        for result in map(read, processed.results)
        if result.id == GOOD_ID and result.task.offset == len(before)
    ]
    assert found.y == ["setosa"]


def read(message: tuple[bytes, bytes]) -> Result:
    return decode_result(message[1])


def id_in(value: bytes | None) -> bytes | None:
    """The key that a well-meaning producer would give to a value."""
    try:
        task_id = json.loads(value or b"")["id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return task_id.encode("utf-8", "replace") if isinstance(task_id, str) else None
