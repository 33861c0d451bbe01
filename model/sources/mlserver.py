"""Models of MLServer: a folder with a file `model-settings.json`. MLServer itself is not needed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from model.card import Feature
from model.errors import SourceError
from model.sources.files import open_file
from model.sources.source import Source

FILE = "model-settings.json"
SKLEARN = "mlserver_sklearn.SKLearnModel"
_RUNTIMES = (SKLEARN, "mlserver_sklearn.sklearn.SKLearnModel")
_USUAL_FILES = ("model.joblib", "model.pickle", "model.pkl")
_TYPES: dict[str, dict[str, Any]] = {
    "FP64": {},
    "FP32": {"dtype": "float32"},
    "INT64": {"type": "integer"},
    "INT32": {"type": "integer", "dtype": "int32"},
    "BOOL": {"type": "boolean"},
    "BYTES": {"type": "text"},
}


def read(folder: Path, trust: bool) -> Source:
    """The scikit-learn model of a folder of MLServer; raises SourceError."""
    path = folder / FILE
    settings = _settings(path)
    _check_runtime(settings, path)
    opened = open_file(_file_of(settings, folder), trust)
    name = str(settings.get("name") or folder.resolve().name)
    return Source(folder, opened, name, _features(settings.get("inputs")))


def _settings(path: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads(path.read_bytes())
    except OSError as e:
        raise SourceError(f"{path} cannot be read ({e.strerror})") from e
    except (ValueError, RecursionError) as e:
        raise SourceError(f"{path} is not JSON ({e})") from e
    if not isinstance(settings, dict):
        raise SourceError(f"{path} is not a JSON object")
    return settings


def _check_runtime(settings: Mapping[str, Any], path: Path) -> None:
    runtime = settings.get("implementation")
    if runtime not in _RUNTIMES:
        raise SourceError(f"{path} has the implementation {runtime}; only {SKLEARN} is imported")


def _file_of(settings: Mapping[str, Any], folder: Path) -> Path:
    """The model's file: `parameters.uri`, or the usual names in that folder."""
    parameters = settings.get("parameters")
    uri = parameters.get("uri") if isinstance(parameters, dict) else None
    address = urlsplit(str(uri or "."))
    if address.scheme not in ("", "file"):
        raise SourceError(
            f"{folder / FILE} has the model at {uri}; download it and give its path as "
            "parameters.uri"
        )
    path = folder / unquote(address.path)
    if not path.is_dir():
        return path
    for name in _USUAL_FILES:
        if (path / name).is_file():
            return path / name
    raise SourceError(f"{path} has none of the files {', '.join(_USUAL_FILES)}")


def _features(inputs: Any) -> tuple[Feature, ...]:
    """The features of inputs that have one column each; () if the settings list no such inputs."""
    if not isinstance(inputs, list) or not all(map(_is_column, inputs)):
        return ()
    return tuple(Feature(name=str(each["name"]), **_TYPES[each["datatype"]]) for each in inputs)


def _is_column(each: Any) -> bool:
    is_known = isinstance(each, dict) and "name" in each and each.get("datatype") in _TYPES
    return is_known and each.get("shape") in ([-1], [-1, 1])
