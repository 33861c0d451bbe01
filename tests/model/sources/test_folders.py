"""Folders as MLflow 3 and MLServer 1 write them, read without either."""

import json
import shutil
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_wine
from sklearn.linear_model import RidgeClassifier
from skops import io as skops

from model.card import Feature
from model.errors import SourceError, SourceNotFound, Untrusted
from model.sources.folders import read
from tests.model.importing import rent

MLMODEL = """
flavors:
  python_function:
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.sklearn
    model_path: model.pkl
    predict_fn: predict
    python_version: 3.11.7
  sklearn:
    code: null
    pickled_model: model.pkl
    serialization_format: cloudpickle
    sklearn_version: 1.9.1
    skops_trusted_types: null
mlflow_version: 3.17.2
model_uuid: 828a33859b724be6bbab58b97e5afcdd
saved_input_example_info:
  artifact_path: input_example.json
  pandas_orient: split
  serving_input_path: serving_input_example.json
  type: dataframe
signature:
  inputs: '[{"type": "long", "name": "living area", "required": true}, {"type": "string",
    "name": "kind", "required": true}, {"type": "string", "name": "postcode"},
    {"type": "double", "name": "rooms", "required": false},
    {"type": "boolean", "name": "new", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "object", "shape": [-1]}}]'
  params: null
utc_time_created: '2026-11-26 08:21:07.694815'
"""
FEATURES = (
    Feature(name="living area", type="integer"),
    Feature(name="kind", type="text"),
    Feature(name="postcode", type="text"),
    Feature(name="rooms", nullable=True),
    Feature(name="new", type="boolean"),
)


@pytest.fixture
def mlflow(tmp_path: Path) -> Path:
    """A folder as `mlflow.sklearn.save_model` writes it."""
    folder = tmp_path / "rent"
    folder.mkdir()
    (folder / "MLmodel").write_text(MLMODEL)
    joblib.dump(rent.classifier(), folder / "model.pkl")
    example = rent.table()[rent.COLUMNS].head(2).to_json(orient="split", index=False)
    (folder / "input_example.json").write_text(example)
    return folder


def changed(folder: Path, **changes: Any) -> None:
    document = yaml.safe_load(MLMODEL) | changes
    (folder / "MLmodel").write_text(yaml.safe_dump(document))


def test_the_signature_of_mlflow_names_columns_types_and_gaps(mlflow: Path) -> None:
    source = read(mlflow, trust=True)
    assert (source.path, source.name, source.features) == (mlflow, "rent", FEATURES)
    sample = rent.table()[rent.COLUMNS].head(2)
    pd.testing.assert_frame_equal(source.sample, sample)
    assert list(source.model.predict(sample)) == list(rent.classifier().predict(sample))
    assert read(mlflow / "MLmodel", trust=True).features == FEATURES


def test_a_pickle_in_a_folder_is_not_opened_without_trust(mlflow: Path, mlserver: Path) -> None:
    for folder in (mlflow, mlserver):
        with pytest.raises(Untrusted, match="It was not opened"):
            read(folder, trust=False)


def test_a_tensor_of_mlflow_has_a_width_and_no_names(mlflow: Path) -> None:
    X, y = load_wine(return_X_y=True)
    skops.dump(RidgeClassifier().fit(X, y), mlflow / "model.skops")
    spec = {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 13]}}
    flavor = {"loader_module": "mlflow.sklearn", "model_path": "model.skops"}
    inputs = {"inputs": json.dumps([spec])}
    changed(mlflow, flavors={"python_function": flavor}, signature=inputs)
    (mlflow / "input_example.json").write_text(json.dumps({"inputs": X[:2].tolist()}))
    source = read(mlflow, trust=False)
    assert source.features == (Feature(name="", dtype="float32"),) * 13
    assert source.sample.to_numpy().tolist() == X[:2].tolist()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"flavors": {"keras": {}, "python_function": {}}}, "the flavors keras, python_function"),
        ({"flavors": None}, "has no `flavors`"),
        ({"signature": {"inputs": '[{"type": "binary", "name": "x"}]'}}, "has the type binary"),
        ({"signature": {"inputs": "{"}}, "is not JSON"),
    ],
)
def test_what_is_not_imported_from_mlflow_is_named(
    mlflow: Path, changes: dict[str, Any], sentence: str
) -> None:
    changed(mlflow, **changes)
    with pytest.raises(SourceError, match=sentence):
        read(mlflow, trust=True)


def test_a_damaged_folder_of_mlflow_is_named(mlflow: Path) -> None:
    (mlflow / "input_example.json").write_text("{")  # it is only an example
    assert read(mlflow, trust=True).sample is None
    (mlflow / "model.pkl").unlink()
    with pytest.raises(SourceNotFound, match=r"model\.pkl cannot be read"):
        read(mlflow, trust=True)
    (mlflow / "MLmodel").write_text("flavors: [\n")
    with pytest.raises(SourceError, match="is not the YAML that MLflow writes"):
        read(mlflow, trust=True)


@pytest.fixture
def mlserver(tmp_path: Path) -> Path:
    """A folder of MLServer's scikit-learn runtime."""
    folder = tmp_path / "served"
    folder.mkdir()
    joblib.dump(rent.classifier(), folder / "model.joblib")
    configure(folder)
    return folder


def configure(folder: Path, **changes: Any) -> None:
    settings = {
        "name": "flats",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib", "version": "v0.1.0"},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings | changes))


def test_settings_of_mlserver_name_the_model_and_its_file(mlserver: Path) -> None:
    source = read(mlserver, trust=True)
    assert (source.path, source.name, source.features) == (mlserver, "flats", ())
    assert source.model.classes_.tolist() == ["big", "small"]
    configure(mlserver, parameters={"uri": "."})
    assert read(mlserver, trust=True).name == "flats"
    shutil.move(mlserver / "model.joblib", mlserver.parent / "elsewhere.pkl")
    configure(mlserver, name=None, parameters={"uri": "../elsewhere.pkl"})
    assert read(mlserver / "model-settings.json", trust=True).name == "served"


def test_inputs_of_mlserver_with_one_column_each_are_features(mlserver: Path) -> None:
    types = ("INT64", "BYTES", "BYTES", "FP64", "BOOL")
    inputs = [
        {"name": name, "datatype": kind, "shape": [-1, 1]}
        for name, kind in zip(rent.COLUMNS, types, strict=True)
    ]
    configure(mlserver, inputs=inputs)
    found = read(mlserver, trust=True).features
    assert [(f.name, f.type) for f in found] == [(f.name, f.type) for f in FEATURES]
    configure(mlserver, inputs=[{"name": "x", "datatype": "FP64", "shape": [-1, 5]}])
    assert read(mlserver, trust=True).features == ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"implementation": "mlserver_huggingface.Runtime"}, "has the implementation mlserver_h"),
        ({"parameters": {"uri": "s3://bucket/model"}}, "download it"),
        ({"parameters": {"uri": "gone.joblib"}}, r"gone\.joblib cannot be read"),
        ({"parameters": {"uri": ".."}}, "has none of the files model.joblib"),
    ],
)
def test_what_is_not_imported_from_mlserver_is_named(
    mlserver: Path, changes: dict[str, Any], sentence: str
) -> None:
    configure(mlserver, **changes)
    with pytest.raises(SourceError, match=sentence):
        read(mlserver, trust=True)


def test_other_folders_and_missing_paths_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"without MLmodel or model-settings\.json"):
        read(tmp_path, trust=True)
    with pytest.raises(SourceNotFound, match="does not exist"):
        read(tmp_path / "gone", trust=True)


def test_a_file_names_its_model(tmp_path: Path) -> None:
    model = rent.classifier()
    for file in ("rent.joblib", "rent.joblib.gz", "rent.pkl"):
        joblib.dump(model, tmp_path / file)
        assert read(tmp_path / file, trust=True).name == "rent"
