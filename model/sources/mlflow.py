"""Models that MLflow saved: a folder with a file `MLmodel`. MLflow itself is not needed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from model.card import Feature
from model.errors import SourceError
from model.sources.files import open_file
from model.sources.source import Source

FILE = "MLmodel"
SKLEARN = "mlflow.sklearn"
_TYPES: dict[str, dict[str, Any]] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "dtype": "int32"},
    "long": {"type": "integer"},
    "float": {"dtype": "float32"},
    "double": {},
    "string": {"type": "text"},
}


def read(folder: Path, trust: bool) -> Source:
    """The scikit-learn model in a folder of MLflow; raises SourceError."""
    path = folder / FILE
    document = _document(path)
    features = _features(document, path)
    opened = open_file(folder / _file_of(document, path), trust)
    return Source(folder, opened, folder.resolve().name, features, _example(document, folder))


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as e:
        raise SourceError(f"{path} cannot be read ({e.strerror})") from e
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        reason = " ".join(str(e).split())[:200]
        raise SourceError(f"{path} is not the YAML that MLflow writes ({reason})") from e
    if not isinstance(document, dict) or not isinstance(document.get("flavors"), dict):
        raise SourceError(f"{path} has no `flavors`, so it is not the file that MLflow writes")
    return document


def _file_of(document: Mapping[str, Any], path: Path) -> str:
    """The name of the model's file, from the flavor `sklearn` or from a loader that reads it."""
    flavors = document["flavors"]
    own, general = (_mapping(flavors.get(name)) for name in ("sklearn", "python_function"))
    file = own.get("pickled_model")
    if file is None and general.get("loader_module") == SKLEARN:
        file = general.get("model_path") or general.get("data")
    if not isinstance(file, str):
        raise SourceError(
            f"{path} has the flavors {', '.join(map(str, flavors))}, and none that scikit-learn "
            "reads; only models that were saved with mlflow.sklearn are imported"
        )
    return file


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _features(document: Mapping[str, Any], path: Path) -> tuple[Feature, ...]:
    """The features of the signature; () if there is none, or a tensor of any width."""
    columns = _columns(_mapping(document.get("signature")).get("inputs"), path)
    if len(columns) == 1 and columns[0].get("type") == "tensor":
        return _of_tensor(_mapping(columns[0].get("tensor-spec")))
    return tuple(_feature(column, path) for column in columns)


def _columns(inputs: Any, path: Path) -> list[Mapping[str, Any]]:
    if inputs is None:
        return []
    try:
        columns = json.loads(inputs) if isinstance(inputs, str) else inputs
    except (ValueError, RecursionError) as e:
        raise SourceError(f"the signature of {path} is not JSON ({e})") from e
    if not isinstance(columns, list):
        raise SourceError(f"the signature of {path} is not a list of columns")
    return [_mapping(column) for column in columns]


def _of_tensor(spec: Mapping[str, Any]) -> tuple[Feature, ...]:
    match spec.get("shape"):
        case [_, int(width)] if width > 0:
            dtype = "float32" if spec.get("dtype") == "float32" else ""
            return (Feature(name="", dtype=dtype),) * width
    return ()


def _feature(column: Mapping[str, Any], path: Path) -> Feature:
    name, kind = str(column.get("name", "")), str(column.get("type"))
    if kind not in _TYPES:
        raise SourceError(
            f"the signature of {path} has the type {kind} for column {name!r}; served are "
            f"{', '.join(_TYPES)}"
        )
    nullable = column.get("required") is False or column.get("optional") is True
    form = _TYPES[kind] if not nullable or kind != "integer" else {"type": "integer"}
    return Feature(name=name, nullable=nullable, **form)


def _example(document: Mapping[str, Any], folder: Path) -> Any:
    """The rows that were saved with the model as a DataFrame; None if there are none."""
    info = _mapping(document.get("saved_input_example_info"))
    file = info.get("artifact_path")
    if not isinstance(file, str):
        return None
    try:
        return _frame(json.loads((folder / file).read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None  # it is only an example


def _frame(example: Any) -> Any:
    import pandas as pd

    if isinstance(example, dict) and "data" in example:
        return pd.DataFrame(example["data"], columns=example.get("columns"))
    rows = example.get("inputs", example) if isinstance(example, dict) else example
    return pd.DataFrame(rows)
