"""Tries a model before it is saved: can another process unpickle it, and does it answer?"""

import importlib.util
import pickle
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from model import rows
from model.card import Card, Feature
from model.errors import InvalidRow, PredictError, WrongShape
from model.examples import edge_rows
from model.predict import matrix, predictor

# As `petal` finds modules: those of the current folder after all others.
UNPICKLE = (
    "import os, sys; sys.path.append(os.getcwd()); "
    "import io, joblib; joblib.load(io.BytesIO(sys.stdin.buffer.read()))"
)
UNPICKLE_SECONDS = 60.0
ONE_TEXT = (
    "; if its first step takes a list of texts, as TfidfVectorizer does, wrap this step: "
    "make_column_transformer((TfidfVectorizer(), 0))"
)

# Packages whose name is not that of their module.
_PACKAGES = {
    "imblearn": "imbalanced-learn",
    "sklearn": "scikit-learn",
    "sklego": "scikit-lego",
    "skopt": "scikit-optimize",
}
_KNOWN = {
    *_PACKAGES, "catboost", "category_encoders", "feature_engine", "interpret", "lightgbm", "lz4",
    "mapie", "ngboost", "polars", "skrub", "statsmodels", "xgboost",
}  # fmt: skip

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
            "can import; move it to a module in the folder where you run petal"
        )
    return None if all(map(_is_installed, names)) else foreign_fault(data)


def foreign_fault(data: bytes) -> str | None:
    """Why a new process cannot unpickle `data`, whatever pickled it; None if it can."""
    if not sys.executable:
        return None
    reason = _failure_in_new_process(data)
    return reason and (
        f"a new process cannot unpickle it ({reason}); put the module into the folder where you "
        "run petal, which is the current one here, install it, or add its folder to PYTHONPATH"
    )


def _failure_in_new_process(data: bytes) -> str | None:
    command = [sys.executable, "-P", "-W", "ignore", "-c", UNPICKLE]
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, check=False, timeout=UNPICKLE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"it takes longer than {UNPICKLE_SECONDS:g} s; a module may do more than define"
    if not done.returncode:
        return None
    lines = done.stderr.decode(errors="replace").splitlines()
    return next(filter(None, reversed(lines)), f"exit code {done.returncode}")


def missing_module(module: str) -> str:
    """What to do where the pickle of a model needs a module that cannot be imported."""
    root = module.partition(".")[0]
    if root != module and importlib.util.find_spec(root) is not None:
        return (
            f"it needs the module {module}, which the installed version of {root} lacks; install "
            f"the version of {_PACKAGES.get(root, root)} that the model was saved with"
        )
    if root in _KNOWN:
        return f"it needs {root}, which is not installed: pip install {_PACKAGES.get(root, root)}"
    return (
        f"it needs the module {module}, which cannot be imported; if it is your own, put it into "
        "the project's folder or add its folder to PYTHONPATH, else install its package"
    )


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


def is_picklable(model: Any) -> bool:
    """Whether another process may unpickle what pickle makes of the model now.

    cloudpickle carries functions and classes of a program within its files; pickle does not.
    """
    try:
        return "__main__" not in _globals_of(model)
    except Exception:  # a class decides itself how it is pickled
        return False


def _is_installed(module: str) -> bool:
    root = module.partition(".")[0]
    file = getattr(sys.modules.get(root), "__file__", None)
    places = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    return root in sys.stdlib_module_names or (
        file is not None and any(map(Path(file).is_relative_to, places))
    )


def has_several_outputs(model: Any, card: Card) -> bool:
    """Whether the model returns several values for a row."""
    # No attribute shows it for every estimator, so the model predicts a row. If that row fails
    # for another reason, the model can still be served: the error is the answer to such a row.
    return isinstance(_fault_of(model, [next(edge_rows(card))], card), WrongShape)


def answer_fault(model: Any, card: Card, sample: Any = None) -> str | None:
    """Why the model answers no row that it should answer; None if it answers one.

    The rows are those of `sample`, shape (rows, features), or made from the card. They are
    predicted two by two, because one row does not show that a model takes another shape.
    """
    if sample is None:
        tried = [[row, row] for row in edge_rows(card)]
    else:
        tried = [sample_rows(sample)]
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


def sample_rows(sample: Any) -> Rows:
    """The rows of a table as JSON has them; None: missing."""
    is_frame = hasattr(sample, "to_numpy")
    table = sample.to_numpy(dtype=object) if is_frame else np.asarray(sample, dtype=object)
    return [[plain_value(value) for value in row] for row in np.atleast_2d(table).tolist()]


def plain_value(value: Any) -> Any:
    """A value of a table as JSON has it; None for the missing values of numpy and pandas."""
    if isinstance(value, np.generic):
        value = value.item()
    is_nan = isinstance(value, float) and value != value
    return None if is_nan or type(value).__name__ in ("NAType", "NaTType") else value


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
        return bool(feature.categories)
    return feature.type == "boolean" or None not in (feature.minimum, feature.maximum)
