"""What is saved can be unpickled by another process, and answers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from model import artifact, trial
from model.card import Feature
from model.errors import ArtifactError
from model.predict import matrix, predict
from model.train import load, make_card
from tests.processes import ROOT, clean_environ

X, Y, FEATURES = load()
TEXTS = ["warm and dry", "cold rain", "warm sun", "cold snow"]
TEXT = Feature(name="text", type="text")


def saved(model: Any, features: list[Feature], folder: Path, **options: Any) -> artifact.Loaded:
    path = folder / "own.joblib"
    artifact.save(model, make_card("own", model, features), path, **options)
    return artifact.load(path)


@pytest.mark.parametrize(
    "model",
    [
        LinearRegression(),
        Ridge(),
        KNeighborsRegressor(),
        MultiOutputRegressor(LinearRegression()),
        make_pipeline(FunctionTransformer(), LinearRegression()),
    ],
)
def test_a_model_of_a_target_with_one_column_answers_one_number_a_row(
    tmp_path: Path, model: Any
) -> None:
    model.fit(X[:, :3], X[:, 3:])
    loaded = saved(model, FEATURES[:3], tmp_path)
    assert predict(loaded.model, X[:2, :3]).y == np.ravel(model.predict(X[:2, :3])).tolist()


def test_a_classifier_of_a_target_with_one_column_answers_one_label_a_row(tmp_path: Path) -> None:
    inner = LogisticRegression(max_iter=1000)
    model = MultiOutputClassifier(inner).fit(X, Y.reshape(-1, 1))
    loaded = saved(model, FEATURES, tmp_path)
    assert loaded.card.classes == ("setosa", "versicolor", "virginica")
    y, proba, _ = predict(loaded.model, X[[0, 149]])
    assert y == ["setosa", "virginica"]
    assert proba == model.predict_proba(X[[0, 149]])[0].tolist()


@pytest.mark.parametrize("vectorizer", [TfidfVectorizer(), CountVectorizer(lowercase=False)])
def test_a_model_that_takes_a_list_of_texts_is_not_saved(tmp_path: Path, vectorizer: Any) -> None:
    model = make_pipeline(vectorizer, LogisticRegression()).fit(TEXTS, [1, 0, 1, 0])
    with pytest.raises(ArtifactError, match=r"does not answer .* make_column_transformer"):
        saved(model, [TEXT], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_column_of_texts_behind_a_column_transformer_is_saved_and_answers(
    tmp_path: Path,
) -> None:
    texts = make_column_transformer((TfidfVectorizer(), 0))
    table = matrix([[text] for text in TEXTS], numeric=False)
    model = make_pipeline(texts, LogisticRegression()).fit(table, [1, 0, 1, 0])
    assert predict(saved(model, [TEXT], tmp_path).model, table).y == [1, 0, 1, 0]


def test_a_model_that_fails_for_all_that_its_card_allows_is_not_saved(tmp_path: Path) -> None:
    table = matrix([["flat"], ["house"]], numeric=False)
    model = make_pipeline(OneHotEncoder(), LinearRegression()).fit(table, [1.0, 2.0])
    wrong = Feature(name="kind", type="text", categories=("Flat", "House"))
    with pytest.raises(ArtifactError, match="unknown categories"):
        saved(model, [wrong], tmp_path)


def test_a_model_whose_values_the_card_does_not_say_is_tried_with_the_sample(
    tmp_path: Path,
) -> None:
    table = matrix([["flat"], ["house"]], numeric=False)
    model = make_pipeline(OneHotEncoder(), LinearRegression()).fit(table, [1.0, 2.0])
    free = [Feature(name="kind", type="text")]
    assert saved(model, free, tmp_path).card.features == tuple(free)
    assert saved(model, free, tmp_path, sample=table).card.features == tuple(free)
    with pytest.raises(ArtifactError, match="unknown categories"):
        saved(model, free, tmp_path, sample=[["hut"]])
    with pytest.raises(ArtifactError, match="does not allow the sample: kind: 1 is not a text"):
        saved(model, free, tmp_path, sample=pd.DataFrame({"kind": [1]}))


def test_one_failing_end_of_a_range_is_no_reason_to_refuse(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(np.log), LinearRegression())
    model.fit([[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0])
    features = [Feature(name="x", minimum=0.0, maximum=3.0)]
    assert predict(saved(model, features, tmp_path).model, np.array([[2.0]])).y == [
        pytest.approx(2.1, abs=0.1)
    ]


@pytest.mark.parametrize("model", [lambda row: row, type("Local", (), {"fit": None})()])
def test_what_cannot_be_pickled_is_not_saved(tmp_path: Path, model: Any) -> None:
    broken = make_pipeline(FunctionTransformer(lambda X: X), LinearRegression()).fit(X, X[:, 0])
    broken.extra_ = model
    with pytest.raises(ArtifactError, match="its Pipeline cannot be pickled"):
        saved(broken, FEATURES, tmp_path)


class Forgetful(LinearRegression):  # type: ignore[misc]
    """Its pickle lacks what it learned."""

    def __getstate__(self) -> Any:
        return self.get_params()


class Unreadable(LinearRegression):  # type: ignore[misc]
    """Its pickle cannot be read."""

    def __setstate__(self, state: Any) -> None:
        raise ValueError("no")


@pytest.mark.parametrize(
    ("model", "fault"),
    [(Forgetful(), "its Forgetful is not fitted"), (Unreadable(), r"\(ValueError: no\)")],
)
def test_a_model_that_is_not_read_back_as_it_was_is_not_saved(
    tmp_path: Path, model: Any, fault: str
) -> None:
    model.fit(X, X[:, 0])
    with pytest.raises(ArtifactError, match=fault):
        saved(model, FEATURES, tmp_path)
    assert list(tmp_path.iterdir()) == []


OWN = """
import sys
from pathlib import Path
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import FunctionTransformer
from sklearn.pipeline import make_pipeline
from model import artifact
from model.card import Feature
from model.errors import ArtifactError
from model.train import make_card
{definition}
model = {model}.fit([[0.0], [1.0]], [0.0, 1.0])
try:
    artifact.save(model, make_card("own", model, [Feature(name="x")]), Path(sys.argv[1]))
except ArtifactError as e:
    print(e)
"""
CLASS = "class Own(LinearRegression):\n    pass\n"
FUNCTION = "def same(X):\n    return X\n"
STEP = "make_pipeline(FunctionTransformer(same), LinearRegression())"


def run(folder: Path, script: str) -> str:
    """What a program prints that saves a model; modules beside the program can be imported."""
    (folder / "program.py").write_text(script)
    environ = {**clean_environ(), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "program.py", "own.joblib"],
        cwd=folder, env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize(
    ("definition", "model", "name"), [(CLASS, "Own()", "Own"), (FUNCTION, STEP, "same")]
)
def test_a_class_or_function_of_the_program_itself_is_not_saved(
    tmp_path: Path, definition: str, model: str, name: str
) -> None:
    said = run(tmp_path, OWN.format(definition=definition, model=model))
    assert f"it needs {name} of the program that saves it" in said
    assert not (tmp_path / "own.joblib").exists()


MODULE = f"from sklearn.linear_model import LinearRegression\n{CLASS}"


def test_a_module_of_the_current_folder_is_saved_beside_files_named_as_ours(
    tmp_path: Path,
) -> None:
    (tmp_path / "own_estimators.py").write_text(MODULE)
    definition = "from own_estimators import Own; Path('joblib.py').write_text('1 / 0')"
    assert run(tmp_path, OWN.format(definition=definition, model="Own()")) == ""
    environ = {**clean_environ(), "PETAL_MODEL": "own.joblib"}
    done = subprocess.run(
        ["petal", "predict", "0.5"],
        cwd=tmp_path, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0.5\n", "")


def test_a_module_that_a_new_process_cannot_import_is_not_saved(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "own_estimators.py").write_text(MODULE)
    definition = "sys.path.append('elsewhere')\nfrom own_estimators import Own"
    said = run(tmp_path, OWN.format(definition=definition, model="Own()"))
    assert "ModuleNotFoundError: No module named 'own_estimators'); put the module into" in said
    assert not (tmp_path / "own.joblib").exists()


def test_a_module_of_the_project_is_saved(tmp_path: Path) -> None:
    definition = "from tests.estimators import Sleeper"
    said = run(tmp_path, OWN.format(definition=definition, model="Sleeper()"))
    assert said == ""
    assert trial.unpickle_fault(*_pair(tmp_path / "own.joblib")) is None


def _pair(path: Path) -> tuple[Any, bytes]:
    return artifact.load(path).model, path.read_bytes()
