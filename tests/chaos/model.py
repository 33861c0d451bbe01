"""A model whose answer tells the question: the first feature of each row, which comes from the
task's id. A crossed, shifted or cut-off answer is then seen with certainty; iris, with three
classes, would hide a third of them.
"""

from pathlib import Path

import numpy as np
from sklearn.linear_model import LinearRegression

from model import artifact
from model.train import describe, make_card

MOST_ROWS = 4
DIGITS = 9  # of the id: 36 bits times MOST_ROWS stay exact in a float
OTHER = 1 << 40  # above every fingerprint: the rows of another task that uses the same id
BULK = "b16b16"  # how the id of a task with BULK_ROWS rows ends
BULK_ROWS = 35_000  # a task of 0.6 MB; two answers of 0.5 MB do not fit into one batch


def fingerprint(task_id: str, other: bool = False) -> int:
    """A number of the id that two tasks of one run practically never share."""
    return int(task_id.replace("-", "")[:DIGITS], 16) * MOST_ROWS + OTHER * other


def owner_of(value: float) -> int:
    """The fingerprint that a number of an answer belongs to."""
    return round(value) // MOST_ROWS * MOST_ROWS


def bulk_id(task_id: str) -> str:
    """This id as that of a task with many rows; its numbers are long."""
    return f"f{task_id[1 : -len(BULK)]}{BULK}"


def answer_to(task_id: str, other: bool = False) -> list[int]:
    """The right answer: as many numbers as the task has rows, 1 to MOST_ROWS or BULK_ROWS.

    Many rows repeat the same MOST_ROWS numbers, which are the task's own.
    """
    first = fingerprint(task_id, other)
    if task_id.endswith(BULK):
        return [first + n % MOST_ROWS for n in range(BULK_ROWS)]
    return list(range(first, first + 1 + int(task_id[-1], 16) % MOST_ROWS))


def rows_for(task_id: str, other: bool = False) -> list[list[float]]:
    """The task's `X`, shape (rows, 2)."""
    return [[float(value), float(n)] for n, value in enumerate(answer_to(task_id, other))]


def broken_rows(task_id: str) -> list[list[float]]:
    """An `X` that can be read and not predicted: a feature is missing."""
    return [row[:1] for row in rows_for(task_id)]


def save(path: Path) -> None:
    """Fit y = first feature, and save it with its card as any model."""
    X = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    model = LinearRegression().fit(X, X[:, 0])
    artifact.save(model, make_card("fingerprint", model, describe(X, ["number", "row"])), path)
