"""The column that a model learns to predict, and whether it names classes or measures a number."""

from collections import Counter
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from model.errors import TableError
from model.training.columns import at, check_texts, listed, plain
from model.values.sentences import shown_value

Task = Literal["classification", "regression"]
TASKS: tuple[Task, ...] = ("classification", "regression")

MAX_CLASSES = 1000
MAX_WHOLE_CLASSES = 20  # distinct whole numbers that are taken for classes
MIN_ROWS_PER_CLASS = 5  # on average, of whole numbers that are taken for classes
MIN_ROWS = 10
MAX_LABEL = 100  # characters, up to which labels are stored with a fixed width


class Target(NamedTuple):
    """`y` of shape (rows,), the task, and why it is that task."""

    y: np.ndarray[Any, Any]
    task: Task
    reason: str


def without(table: pd.DataFrame, names: tuple[str, ...], target: str) -> pd.DataFrame:
    """The table without columns to leave out; raises TableError for a name that it does not have.

    `target` must be one of the rest, and another column too.
    """
    for name in (target, *names):
        if name not in table.columns:
            raise TableError(_unknown(name, list(table.columns)))
    if target in names:
        raise TableError(f"column {target} is the target and cannot be left out")
    rest = table.drop(columns=list(names))
    if rest.shape[1] == 1:
        raise TableError(f"{target} is the only column; a model needs others to predict it from")
    return rest


def _unknown(name: str, names: list[str]) -> str:
    close = get_close_matches(name.casefold(), [n.casefold() for n in names], 3, 0.6)
    like = [n for n in names if n.casefold() in close]
    if like:
        return f"there is no column {name!r}; did you mean: {listed(like)}"
    return f"there is no column {name!r}; the columns are: {listed(names)}"


def with_target(table: pd.DataFrame, target: str, note: Callable[[str], None]) -> pd.DataFrame:
    """The rows that have a value of the target. Raises TableError for too few."""
    known = table[table[target].notna()]
    if lost := len(table) - len(known):
        note(f"{lost:,} rows are left out: they have no value of {target}")
    if len(known) < MIN_ROWS:
        raise TableError(
            f"{len(known)} rows have a value of {target}; a model needs {MIN_ROWS} or more"
        )
    return known


def choose(column: pd.Series, task: Task | None) -> Target:
    """The target of a column without missing values; raises TableError if it cannot be one."""
    try:
        column = plain(column)
        if column.dtype == "str":
            check_texts(column)
    except TableError as e:
        raise TableError(f"the target {column.name} {e}") from e
    values = column.to_numpy()
    if column.dtype.kind == "f":
        if not np.isfinite(values).all():
            infinite = column.index[~np.isfinite(values)]
            raise TableError(f"the target {column.name} is infinite {at(infinite)}")
        if (values % 1 == 0).all() and np.abs(values).max() < 2**53:
            values = values.astype(np.int64)  # as a file without missing values has them
    distinct = len(column.unique())
    if distinct < 2:
        raise TableError(
            f"all rows have the same {column.name}, {values[0]}; there is nothing to predict"
        )
    found, reason = _task_of(values, distinct)
    if task is not None and task != found:
        found, reason = task, "as asked"
    if found == "regression":
        return Target(_numbers(column, values), found, reason)
    return Target(_labels(column, values), found, reason)


def _task_of(values: np.ndarray[Any, Any], distinct: int) -> tuple[Task, str]:
    kind = values.dtype.kind
    if kind == "b":
        return "classification", "its values are true and false"
    if kind not in "if":
        return "classification", f"its values are {distinct:,} texts"
    if kind == "f":
        return "regression", "its values are numbers with fractions"
    few = distinct <= MAX_WHOLE_CLASSES and distinct * MIN_ROWS_PER_CLASS <= len(values)
    if few or distinct == 2:
        return "classification", f"its values are {distinct} whole numbers"
    return "regression", f"its values are {distinct:,} distinct whole numbers"


def _numbers(column: pd.Series, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if values.dtype.kind not in "if":
        raise TableError(
            f"regression needs numbers, and the target {column.name} has "
            f"{shown_value(values[:1].tolist()[0])} "
            f"{at(column.index)}"
        )
    return values.astype(np.float64)


def _labels(column: pd.Series, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    rows = Counter(values.tolist())
    label, least = min(rows.items(), key=lambda item: item[1])
    if len(rows) > MAX_CLASSES:
        advice = "" if values.dtype == object else "; for numbers: --task regression"
        raise TableError(
            f"the target {column.name} has {len(rows):,} distinct values, and {MAX_CLASSES:,} are "
            f"the most for classes{advice}"
        )
    if least < 2:
        alone = sum(count == 1 for count in rows.values())
        raise TableError(
            f"{alone:,} of the {len(rows):,} classes of {column.name} have one row, such as "
            f"{label!r}; each needs two or more to be tested: leave these rows out, or join classes"
        )
    if values.dtype == object:
        longest = max(map(len, rows))
        return values.astype(str) if longest <= MAX_LABEL else values
    return values
