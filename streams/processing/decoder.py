"""Why a record cannot be answered with labels: it has no id to answer to, or a fault to tell."""

import json
from itertools import chain
from typing import Any

import numpy as np

from streams.events import Failure, is_id


class Unreadable(Exception):
    """A value without a task id to answer to; `str()` is the dead letter's reason."""


class Refused(Exception):
    """A task that can be read but not predicted."""

    def __init__(self, task_id: str, code: str, message: str, digest: str | None = None) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.failure = Failure(code, message)
        self.digest = digest


def explain(value: bytes, detail: str) -> Unreadable | Refused:
    """Why a value is no task: Refused if it has an id to answer to, else Unreadable."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return Unreadable("bad_utf8")
    try:
        task = json.loads(text)  # unlike msgspec it reads NaN, so that the task can be told so
    except RecursionError:
        return Unreadable("too_deep")
    except ValueError:
        return Unreadable("bad_json")
    if not isinstance(task, dict):
        return Unreadable("not_an_object")
    task_id = task.get("id")
    if not isinstance(task_id, str) or not is_id(task_id):
        return Unreadable("bad_id")
    return Refused(task_id, *_fault(task, detail))


def _fault(task: dict[str, Any], detail: str) -> tuple[str, str]:
    for field in ("v", "X", "at"):
        if field not in task:
            return "missing_field", f"the field {field} is missing"
    if type(task["v"]) is not int:
        return "wrong_type", "v must be the number 1"
    if task["v"] != 1:
        return "unsupported_version", "this pipeline reads version 1"
    if not isinstance(task["X"], list) or not all(isinstance(row, list) for row in task["X"]):
        return "wrong_shape", "X must be a list of rows, each a list of features"
    for value in chain.from_iterable(task["X"]):
        if isinstance(value, float) and not np.isfinite(value):
            return "not_finite", "X holds a number that is not finite"
    return "wrong_type", detail[:200]
