"""`petal import` in a shell: a model of another program, then its answers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.datasets import load_wine
from sklearn.linear_model import RidgeClassifier
from skops import io as skops

from model import artifact
from model import card as cards
from tests.model.importing import rent
from tests.processes import Pipeline, clean_environ


@pytest.fixture
def flats(tmp_path: Path) -> Path:
    """A folder with a pickled model and a sample of its table."""
    folder = tmp_path / "it's mine"
    folder.mkdir()
    joblib.dump(rent.classifier(), folder / "flats.joblib")
    rent.table().to_csv(folder / "sample.csv", index=False)
    return folder


def run(shell: Pipeline, folder: Path, *options: str) -> Any:
    data = ("--data", str(folder / "sample.csv"))
    return shell.run("import", str(folder / "flats.joblib"), *data, *options)


def test_the_last_line_asks_the_imported_model(shell: Pipeline, flats: Path) -> None:
    path = flats / "served" / "model.joblib"
    done = run(shell, flats, "--trust", "--output", str(path))
    assert (done.returncode, done.stderr) == (
        0, "petal: the model does not take these columns, which are passed over: id, size\n",
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{cards.read(path).id}: classifier, ")
    first = rent.table()[rent.COLUMNS].head(1)
    label = rent.classifier().predict(first)[0]
    answer = next(line for line in lines if line.startswith("answer: "))
    assert answer.startswith(f"answer: {label}  (probability ")
    petal = f"{sys.executable} -m cli"
    asked = subprocess.run(
        ["sh", "-c", lines[-1].replace("petal predict", f"{petal} predict")],
        env={**clean_environ(), **shell.env}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert asked.stdout == f"{label}\n"


def test_a_pickle_is_refused_without_trust_and_nothing_is_written(
    shell: Pipeline, flats: Path
) -> None:
    path = flats / "served.joblib"
    done = run(shell, flats, "--output", str(path))
    assert (done.returncode, done.stdout) == (77, "")
    assert "It was not opened. If you trust its author, add --trust" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not path.exists()


def test_json_is_the_card_and_the_default_path_is_beside_the_model_in_use(
    shell: Pipeline, flats: Path
) -> None:
    shell.env["PETAL_MODEL"] = str(flats / "served" / "iris.joblib")
    done = run(shell, flats, "--trust", "--json", "--name", "Wohnung")
    card = artifact.load(flats / "served" / "Wohnung.joblib").card
    assert json.loads(done.stdout) == json.loads(cards.encode(card))
    again = run(shell, flats, "--trust", "--json", "--name", "Wohnung")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    foreign = run(shell, flats, "--trust", "--output", str(flats / "flats.joblib"))
    assert foreign.returncode == 78
    assert "flats.joblib is the file to import; choose another path with --output" in foreign.stderr


def test_a_model_of_skops_needs_neither_trust_nor_a_sample(shell: Pipeline, tmp_path: Path) -> None:
    wine = load_wine()
    model = RidgeClassifier().fit(wine.data, wine.target_names[wine.target])
    skops.dump(model, tmp_path / "wine.skops")
    path = tmp_path / "served.joblib"
    done = shell.run("import", str(tmp_path / "wine.skops"), "--output", str(path))
    assert done.returncode == 0
    assert done.stderr == (
        f"petal: the card of {tmp_path / 'wine.skops'} has no ranges; --data gives them\n"
    )
    shell.env["PETAL_MODEL"] = str(path)
    values = [str(value) for value in wine.data[100]]
    asked = shell.run("predict", *values)
    assert asked.stdout == f"{model.predict(wine.data[100:101])[0]}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("gone.joblib",), 66, "gone.joblib does not exist"),
        (("README.md",), 65, "README.md is not a model that was saved with joblib, pickle"),
        (("tests",), 65, "tests is a folder without MLmodel or model-settings.json"),
        ((), 2, "Missing argument 'SOURCE'"),
    ],
)
def test_what_is_no_model_is_one_line(
    shell: Pipeline, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    done = shell.run("import", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
