"""What the file of a model held: the object, and what its library said while it was opened."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sklearn.exceptions import InconsistentVersionWarning

from model.errors import SourceError, describe
from model.trial import missing_module


class Opened(NamedTuple):
    """An object from a file.

    `pickled` are the bytes that another process can unpickle it from, where the file is a pickle.
    """

    model: Any
    pickled: bytes | None = None
    warnings: tuple[str, ...] = ()


def open_with(read: Callable[[], Any], path: Path, pickled: bytes | None = None) -> Opened:
    """The object that `read` makes of a file; raises SourceError.

    An estimator of another version of scikit-learn is refused: it may answer otherwise.
    """
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            model = read()
        except KeyboardInterrupt:
            raise
        except BaseException as e:  # a pickle can raise anything, also SystemExit
            raise SourceError(f"{path} cannot be opened: {_reason(e)}") from e
    for warning in seen:
        if isinstance(warning.message, InconsistentVersionWarning):
            raise SourceError(_other_version(path, warning.message))
    texts = (" ".join(str(warning.message).split()) for warning in seen)
    return Opened(model, pickled, tuple(dict.fromkeys(texts)))


def _other_version(path: Path, found: InconsistentVersionWarning) -> str:
    version = found.original_sklearn_version
    return (
        f"{path} was saved with scikit-learn {version}, the installed version is "
        f"{found.current_sklearn_version}, which may answer otherwise. Fit and save the model with "
        f"the installed version, or install the other one: pip install scikit-learn=={version}"
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return missing_module(error.name)
    if isinstance(error, AttributeError) and "'__main__'" in str(error):
        return (
            f"it needs a class or function of the program that saved it ({error}); move it to a "
            "module and save the model again, or save it with cloudpickle"
        )
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, EOFError):
        return "its end is missing; copy it again"
    return f"{describe(error)}; it is damaged, or was saved with other versions of its libraries"
