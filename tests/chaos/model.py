"""A model whose answers identify their task: y is the first feature, derived from the task's id.

So every crossed, shifted or truncated answer is detected; iris, with three classes, would hide a
third of them.
"""

from pathlib import Path

import numpy as np
from sklearn.linear_model import LinearRegression

from model import artifact
from model.train import describe, make_card

MAX_ROWS = 4
DIGITS = 9  # of the id: 36 bits times MAX_ROWS are exact in a float
OTHER = 1 << 40  # above every fingerprint: added for another task with the same id
BULK = "b16b16"  # the end of the id of a task with BULK_ROWS rows
BULK_ROWS = 35_000  # a task of 0.6 MB; two answers of 0.5 MB do not fit into one batch


def fingerprint(task_id: str, other: bool = False) -> int:
    """A number derived from the id, practically unique within a run."""
    return int(task_id.replace("-", "")[:DIGITS], 16) * MAX_ROWS + OTHER * other


def owner_of(value: float) -> int:
    """The fingerprint of the task that this number of an answer belongs to."""
    return round(value) // MAX_ROWS * MAX_ROWS


def bulk_id(task_id: str) -> str:
    """The id changed to one of a task with BULK_ROWS rows, whose numbers are long."""
    return f"f{task_id[1 : -len(BULK)]}{BULK}"


def answer_to(task_id: str, other: bool = False) -> list[int]:
    """The right answer: one number for each row; 1 to MAX_ROWS rows, or BULK_ROWS.

    BULK_ROWS rows repeat the task's MAX_ROWS numbers.
    """
    first = fingerprint(task_id, other)
    if task_id.endswith(BULK):
        return [first + n % MAX_ROWS for n in range(BULK_ROWS)]
    return list(range(first, first + 1 + int(task_id[-1], 16) % MAX_ROWS))


def rows_for(task_id: str, other: bool = False) -> list[list[float]]:
    """The task's `X`, shape (rows, 2)."""
    return [[float(value), float(n)] for n, value in enumerate(answer_to(task_id, other))]


def broken_rows(task_id: str) -> list[list[float]]:
    """An `X` that can be read but not predicted: a feature is missing."""
    return [row[:1] for row in rows_for(task_id)]


def save(path: Path) -> None:
    """Fit y = first feature, and save the model with its card."""
    X = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    model = LinearRegression().fit(X, X[:, 0])
    artifact.save(model, make_card("fingerprint", model, describe(X, ["number", "row"])), path)
