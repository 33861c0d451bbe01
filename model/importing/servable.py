"""Whether an object from a file is a fitted model that can be served."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from model import estimator
from model.errors import SourceError, describe

MAX_SHOWN = 8  # keys in a sentence


def check_servable(model: Any, path: Path) -> None:
    """Raise SourceError for an object that is no fitted model, or one that is not served."""
    try:
        found = _fault(model)
    except Exception as e:  # an estimator's attributes run its own code
        found = f"its {type(model).__name__} cannot be examined ({describe(e)})"
    if found:
        raise SourceError(f"{path} cannot be served: {found}")


def _fault(model: Any) -> str | None:
    if isinstance(model, type):
        return f"it holds the class {model.__name__}; save a fitted instance"
    if isinstance(model, Mapping):
        return _fault_of_mapping(model)
    if isinstance(model, list | tuple | set):
        return f"it holds a {type(model).__name__} of {len(model)} objects; save the model alone"
    if type(model).__name__ == "Booster":
        return "it holds a Booster; save the estimator with scikit-learn's interface instead"
    if not hasattr(model, "fit"):
        kind = type(model).__name__
        return f"it holds an object of type {kind}, which is not a scikit-learn estimator"
    try:
        check_is_fitted(model)
    except NotFittedError:
        return f"its {type(model).__name__} is not fitted; call fit before you save it"
    return estimator.fault(model)


def _fault_of_mapping(found: Mapping[Any, Any]) -> str:
    models = [key for key, value in found.items() if hasattr(value, "predict")]
    keys = ", ".join(map(repr, list(found)[:MAX_SHOWN]))
    cure = f"save the model at {models[0]!r} alone" if models else "save the fitted model alone"
    return f"it holds a {type(found).__name__} with the keys {keys}; {cure}"
