"""The target: classes or a number, and why; what cannot be one."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from model.errors import TableError
from model.training import target
from model.training.target import Task


def series(values: Any) -> pd.Series:
    return pd.Series(values, name="price", index=pd.RangeIndex(2, len(values) + 2, name="line"))


@pytest.mark.parametrize(
    ("values", "task", "reason", "dtype"),
    [
        (["a", "b"] * 10, "classification", "its values are 2 texts", "<U1"),
        ([True, False] * 10, "classification", "its values are true and false", "bool"),
        ([0, 1] * 10, "classification", "its values are 2 whole numbers", "int64"),
        ([0.0, 1.0] * 10, "classification", "its values are 2 whole numbers", "int64"),
        ([*range(10)] * 5, "classification", "its values are 10 whole numbers", "int64"),
        ([*range(10)] * 4, "regression", "its values are 10 distinct whole numbers", "float64"),
        ([*range(30)] * 9, "regression", "its values are 30 distinct whole numbers", "float64"),
        ([0.5, 1.0] * 10, "regression", "its values are numbers with fractions", "float64"),
        (pd.Categorical(["a", "b"] * 10), "classification", "its values are 2 texts", "<U1"),
        (["x" * 101, "b"] * 10, "classification", "its values are 2 texts", "object"),
    ],
)
def test_the_task_follows_from_the_values(values: Any, task: str, reason: str, dtype: str) -> None:
    found = target.choose(series(values), None)
    assert (found.task, found.reason, str(found.y.dtype)) == (task, reason, dtype)


def test_another_task_can_be_asked_for() -> None:
    found = target.choose(series([0, 1] * 10), "regression")
    assert (found.task, found.reason, str(found.y.dtype)) == ("regression", "as asked", "float64")
    found = target.choose(series([0.5, 1.5] * 10), "classification")
    assert (found.task, found.y.tolist()[:2]) == ("classification", [0.5, 1.5])


@pytest.mark.parametrize(
    ("values", "task", "sentence"),
    [
        (["a"] * 10, None, "all rows have the same price, a; there is nothing to predict"),
        ([1, np.inf] * 10, None, "the target price is infinite in line 3"),
        ([*"aabbc"], None,
         "1 of the 3 classes of price have one row, such as 'c'; each needs two or more to be "
         "tested: leave these rows out, or join classes"),
        ([f"t{n % 5000}" for n in range(10_000)], None,
         "the target price has 5,000 distinct values, and 1,000 are the most for classes"),
        (np.arange(4000) % 2000, "classification",
         "the target price has 2,000 distinct values, and 1,000 are the most for classes; for "
         "numbers: --task regression"),
        (["a", "b"] * 10, "regression",
         "regression needs numbers, and the target price has 'a' in line 2"),
        ([True, False] * 10, "regression",
         "regression needs numbers, and the target price has true in line 2"),
        ([1, "b"] * 10, None, "the target price holds values of several types"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_target_is_refused(values: Any, task: Task | None, sentence: str) -> None:
    with pytest.raises(TableError) as refused:
        target.choose(series(values), task)
    assert str(refused.value) == sentence


def test_a_number_that_is_written_with_a_unit_is_no_class() -> None:
    with pytest.raises(
        TableError, match=r"the target price holds numbers with a unit, .* '\$1,000'"
    ):
        target.choose(series([f"$1,{n:03}" for n in range(30)]), None)


FRAME = pd.DataFrame({"Price": [1], "size": [2], "id": [3]})


@pytest.mark.parametrize(
    ("drop", "column", "sentence"),
    [
        ((), "price", "there is no column 'price'; did you mean: Price"),
        ((), "x", "there is no column 'x'; the columns are: Price, size, id"),
        (("ids",), "Price", "there is no column 'ids'; did you mean: id"),
        (("Price",), "Price", "column Price is the target and cannot be left out"),
        (("size", "id"), "Price",
         "Price is the only column; a model needs others to predict it from"),
    ],
)  # fmt: skip
def test_a_column_that_is_not_there_is_named(
    drop: tuple[str, ...], column: str, sentence: str
) -> None:
    with pytest.raises(TableError) as refused:
        target.without(FRAME, drop, column)
    assert str(refused.value) == sentence


def test_rows_without_a_target_are_left_out_and_counted() -> None:
    notes: list[str] = []
    frame = pd.DataFrame({"y": [1.0, np.nan, 3.0] * 5, "x": range(15)})
    assert len(target.with_target(frame, "y", notes.append)) == 10
    assert notes == ["5 rows are left out: they have no value of y"]
    with pytest.raises(TableError, match="8 rows have a value of y; a model needs 10 or more"):
        target.with_target(frame[:12], "y", notes.append)
