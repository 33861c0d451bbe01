"""Tries a model before it is saved: can another process unpickle it, and does it answer?"""

import pickle
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from model import rows
from model.card import Card, Feature
from model.errors import InvalidRow, PredictError, WrongShape
from model.predict import matrix, predictor
from model.values import dates

PROJECT = Path(__file__).resolve().parents[1]
UNPICKLE = "import io, joblib, sys; joblib.load(io.BytesIO(sys.stdin.buffer.read()))"
UNPICKLE_SECONDS = 60.0
ONE_TEXT = (
    "; if its first step takes a list of texts, as TfidfVectorizer does, wrap this step: "
    "make_column_transformer((TfidfVectorizer(), 0))"
)

Rows = list[list[Any]]


def unpickle_fault(model: Any, data: bytes) -> str | None:
    """Why another process cannot unpickle `data`, the pickle of the model; None if it can.

    A class of the program that saves the model is missing elsewhere. A new interpreter takes a
    second to start, so it is asked only about modules that do not come with an installed package.
    """
    names = _globals_of(model)
    if "__main__" in names:
        return (
            f"it needs {names['__main__']} of the program that saves it, which no other process "
            "can import; move it to a module in the project's folder"
        )
    if not sys.executable or all(map(_is_installed, names)):
        return None
    reason = _failure_in_new_process(data)
    return reason and (
        f"a new process cannot unpickle it ({reason}); put the module into the project's folder, "
        "install it, or add its folder to PYTHONPATH"
    )


def _failure_in_new_process(data: bytes) -> str | None:
    command = [sys.executable, "-W", "ignore", "-c", UNPICKLE]
    try:
        done = subprocess.run(
            command, cwd=PROJECT, input=data, capture_output=True, check=False,
            timeout=UNPICKLE_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"it takes longer than {UNPICKLE_SECONDS:g} s; a module may do more than define"
    if not done.returncode:
        return None
    lines = done.stderr.decode(errors="replace").splitlines()
    return next(filter(None, reversed(lines)), f"exit code {done.returncode}")


class _Globals(pickle.Pickler):
    """Collects the classes and functions that a pickle refers to: one of each module."""

    def __init__(self) -> None:
        super().__init__(_Nowhere())
        self.names: dict[str, str] = {}

    def reducer_override(self, obj: Any) -> Any:
        named = obj if isinstance(obj, type) or hasattr(obj, "__qualname__") else type(obj)
        module = getattr(named, "__module__", None)
        if isinstance(module, str):
            self.names.setdefault(module, named.__qualname__)
        return NotImplemented


class _Nowhere:
    def write(self, data: Any) -> int:
        return len(data)


def _globals_of(model: Any) -> dict[str, str]:
    """The modules whose classes and functions the model needs, each with one of these names."""
    pickler = _Globals()
    pickler.dump(model)
    return pickler.names


def _is_installed(module: str) -> bool:
    root = module.partition(".")[0]
    file = getattr(sys.modules.get(root), "__file__", None)
    places = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    return root in sys.stdlib_module_names or (
        file is not None and any(map(Path(file).is_relative_to, places))
    )


def example_row(card: Card) -> list[Any]:
    """A row that the model should answer, from the middle of what its features allow."""
    return [_value(feature, 0.5) for feature in card.features]


def has_several_outputs(model: Any, card: Card) -> bool:
    """Whether the model returns several values for a row."""
    # No attribute shows it for every estimator, so the model predicts a row. If that row fails
    # for another reason, the model can still be served: the error is the answer to such a row.
    return isinstance(_fault_of(model, [next(_rows(card))], card), WrongShape)


def answer_fault(model: Any, card: Card, sample: Any = None) -> str | None:
    """Why the model answers no row that it should answer; None if it answers one.

    The rows are those of `sample`, shape (rows, features), or made from the card. They are
    predicted two by two, because one row does not show that a model takes another shape.
    """
    if sample is None:
        tried = [[row, row] for row in _rows(card)]
    else:
        tried = [_sample_rows(sample)]
        try:
            rows.check(card, tried[0])
        except InvalidRow as e:
            return f"its card does not allow the sample: {e}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values that nobody asked for
        faults = [_fault_of(model, X, card) for X in tried]
    fault = faults[-1]
    if None in faults or fault is None or (sample is None and not _is_certain(card, fault)):
        return None
    is_one_text = [feature.type for feature in card.features] == ["text"]
    row = f"a row such as {tried[-1][0]}"
    return f"it does not answer {row} ({fault}){ONE_TEXT if is_one_text else ''}"


def _sample_rows(sample: Any) -> Rows:
    is_frame = hasattr(sample, "to_numpy")
    table = sample.to_numpy(dtype=object) if is_frame else np.asarray(sample, dtype=object)
    return [[plain_value(value) for value in row] for row in np.atleast_2d(table).tolist()]


def plain_value(value: Any) -> Any:
    """A value of a table as JSON has it; None for the missing values of numpy and pandas."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, date) and value == value:  # NaT is a datetime too
        return value.isoformat()
    is_nan = isinstance(value, float) and value != value
    return None if is_nan or type(value).__name__ in ("NAType", "NaTType") else value


def _rows(card: Card) -> Iterator[list[Any]]:
    """Rows that the model should answer: both ends and the middle of what its features allow."""
    for place in (0.0, 0.5, 1.0):
        yield [_value(feature, place) for feature in card.features]


def _value(feature: Feature, place: float) -> Any:
    values = feature.allowed or feature.seen or (("a", "1", "") if feature.type == "text" else ())
    if values:
        return values[round(place * (len(values) - 1))]
    if feature.type == "boolean":
        return place > 0
    if feature.type == "datetime":
        return dates.between(feature.earliest, feature.latest, place)
    low = 0.0 if feature.minimum is None else feature.minimum
    high = low + 1.0 if feature.maximum is None else feature.maximum
    value = low + place * (high - low)
    return round(value) if feature.type == "integer" else value


def _fault_of(model: Any, X: Rows, card: Card) -> PredictError | None:
    try:
        with np.errstate(all="ignore"):
            predictor(model, card)(matrix(X, card.numeric))
    except PredictError as e:
        return e
    return None


def _is_certain(card: Card, fault: PredictError) -> bool:
    """Whether a model that fails for the rows made from its card fails for every row.

    The values may be the reason if the card does not say which ones the model takes.
    """
    known = all(map(_is_known, card.features))
    takes_no_table = isinstance(fault.__cause__, AttributeError | TypeError)
    return known or takes_no_table or isinstance(fault, WrongShape)


def _is_known(feature: Feature) -> bool:
    """Whether the card names values of the feature."""
    if feature.type == "text":
        return bool(feature.allowed or feature.seen)
    if feature.type == "datetime":
        return bool(feature.earliest)
    return feature.type == "boolean" or None not in (feature.minimum, feature.maximum)
