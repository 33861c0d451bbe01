"""Whatever an estimator answers, the result is one that every reader reads, or an error."""

import datetime
import decimal
import json
from fractions import Fraction
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.artifact import Loaded
from streams.codec import decode_result, decode_results, encode
from streams.events import Result, new_id
from streams.processing.processor import Processor
from streams.records import Columns

SCHEMA = msgspec.json.schema(Result)


class Answers:
    """Answers the row [n, …] with the n-th label and probabilities."""

    def __init__(self, y: Any, proba: Any = None) -> None:
        self._y = y
        if proba is not None:
            self.predict_proba = lambda X: proba[self._rows(X)]

    @staticmethod
    def _rows(X: Any) -> Any:
        return X[:, 0].astype(int)

    def predict(self, X: Any) -> Any:
        return self._y[self._rows(X)]


def answers(loaded: Loaded, model: Any, count: int, at: float = 1.8e9) -> list[Result]:
    """The results of tasks of one row each, as every reader sees them."""
    ids = [new_id() for _ in range(count)]
    tasks = [
        encode({"v": 1, "id": task_id, "X": [[float(n), 1.0, 1.0, 1.0]], "at": at})
        for n, task_id in enumerate(ids)
    ]
    processor = Processor(Loaded(model, loaded.card), "host-1", max_rows=3)
    keys = [task_id.encode() for task_id in ids]
    processed = processor.process(0, Columns(range(count), keys, tasks))
    assert processed.dead_letters == []
    values = [value for _, value in processed.results]
    results = [decode_result(value) for value in values]
    assert [r.id for r in results] == ids
    together = decode_results(values)
    assert together is None or together == results
    for value in values:
        jsonschema.validate(json.loads(value), SCHEMA)
    return results


text = st.text(st.characters(codec=None), max_size=5)
numpy_values = st.one_of(
    st.floats(width=32).map(np.float32),
    st.floats(width=16).map(np.float16),
    st.floats().map(np.float64),
    st.floats().map(np.longdouble),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.integers(0, 2**64 - 1).map(np.uint64),
    st.booleans().map(np.bool_),
    text.map(np.str_),
    st.binary(max_size=5).map(np.bytes_),
    st.complex_numbers().map(np.complex128),
    st.just(np.datetime64("2026-01-01")),
    st.just(np.datetime64("NaT")),
    st.just(np.timedelta64(1, "s")),
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**65), 2**65), st.floats(), text,
    st.binary(max_size=5), st.decimals(), st.fractions(), st.datetimes(), st.dates(),
    st.timedeltas(), st.uuids(), numpy_values,
)  # fmt: skip
labels = scalars | st.lists(scalars, max_size=2) | st.dictionaries(text, scalars, max_size=1)


def objects(values: list[Any], shape: tuple[int, ...]) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(shape)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    y=st.lists(labels, min_size=1, max_size=4),
    proba=st.none() | st.lists(scalars, min_size=8, max_size=8),
    at=st.floats(allow_nan=False, allow_infinity=False),
)
def test_whatever_is_answered_can_be_read(
    loaded: Loaded, y: list[Any], proba: list[Any] | None, at: float
) -> None:
    probabilities = None if proba is None else objects(proba, (4, 2))
    for result in answers(loaded, Answers(objects(y, (len(y),)), probabilities), len(y), at):
        assert (result.y is None) != (result.error is None)
        assert result.error is None or result.error.code == "predict_failed"
        assert 0 <= result.ms.queue <= 1e13


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=scalars)
def test_whatever_numpy_makes_of_the_labels_can_be_read(loaded: Loaded, value: Any) -> None:
    try:
        y = np.asarray([value])
    except (OverflowError, ValueError):
        return
    answers(loaded, Answers(y), 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.True_, True),
        (np.str_("rose"), "rose"),
        (np.longdouble(2.5), 2.5),
        (2**64 - 1, 2**64 - 1),
    ],
)
def test_a_scalar_of_numpy_among_objects_is_its_value(
    loaded: Loaded, value: Any, expected: Any
) -> None:
    [result] = answers(loaded, Answers(objects([value], (1,))), 1)
    assert result.y == [expected]
    assert list(map(type, result.y or [])) == [type(expected)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "NoneType"),
        (float("nan"), "not finite"),
        (b"rose", "bytes"),
        (decimal.Decimal("1.5"), "Decimal"),
        (Fraction(1, 2), "Fraction"),
        (datetime.date(2026, 1, 1), "date"),
        ([1, 2], "list"),
        (2**64, "64 bits"),
        ("\ud800", "no Unicode"),
    ],
)
def test_what_no_reader_takes_is_an_error_and_its_neighbours_are_answered(
    loaded: Loaded, value: Any, message: str
) -> None:
    before, failed, after = answers(loaded, Answers(objects(["a", value, "b"], (3,))), 3)
    assert (before.y, after.y, failed.y) == (["a"], ["b"], None)
    assert failed.error is not None
    assert (failed.error.code, message in failed.error.message) == ("predict_failed", True)


@pytest.mark.parametrize(
    ("proba", "read"),
    [
        ([[1, 0]], [[1.0, 0.0]]),
        ([[True, False]], [[1.0, 0.0]]),
        ([[float("inf"), 0.0]], None),
        ([[None, 0.5]], None),
        ([["0.5", b"x"]], None),
        ([[1 + 2j, 0]], None),
    ],
)
def test_probabilities_are_numbers_or_an_error(loaded: Loaded, proba: Any, read: Any) -> None:
    [result] = answers(loaded, Answers(np.array(["a"]), np.array(proba)), 1)
    assert result.proba == read
    assert (result.error is None) == (read is not None)


@pytest.mark.parametrize("at", [-1e305, -1.7976931348623157e308, 1e305, -9.3e18, 0.0, 5e-324])
def test_a_time_that_cannot_be_true_gives_a_finite_timing(loaded: Loaded, at: float) -> None:
    [result] = answers(loaded, Answers(np.array(["a"])), 1, at)
    assert 0 <= result.ms.queue <= 1e13


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("error", [ValueError("\ud800"), Unspeakable()])
def test_an_error_that_cannot_be_written_is_a_result(loaded: Loaded, error: Exception) -> None:
    class Fails(Answers):
        def predict(self, X: Any) -> Any:
            raise error

    [result] = answers(loaded, Fails(None), 1)
    assert result.error is not None
    assert result.error.message.startswith(type(error).__name__)
