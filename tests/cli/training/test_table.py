"""`petal train FILE`: from a table to a model that every door serves, in one command."""

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from cli import exit_codes
from cli.__main__ import petal
from model import artifact
from model import card as cards
from tests.processes import Pipeline

Petal = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Petal:
    """Runs `petal` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PETAL_MODEL", str(tmp_path / "models" / "iris.joblib"))

    def run(*arguments: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(petal, list(arguments), input=stdin)

    return run


@pytest.fixture
def homes(tmp_path: Path) -> Path:
    """A CSV of German Excel: rents by size, kind and balcony."""
    random = np.random.default_rng(0)
    n = 120
    table = pd.DataFrame({
        "id": range(1, n + 1),
        "living area": random.uniform(20, 200, n).round(1),
        "kind": random.choice(["flat", "Häuschen am See"], n),
        "balcony": random.choice([True, False], n),
    })  # fmt: skip
    table["rent"] = (10.37 * table["living area"] + 300 * table["balcony"]).round(2)
    path = tmp_path / "my homes.csv"
    table.to_csv(path, sep=";", decimal=",", index=False, encoding="utf-8-sig")
    return path


def test_a_table_becomes_a_model_and_the_last_line_asks_it(
    run: Petal, homes: Path, tmp_path: Path
) -> None:
    done = run("train", homes.name, "--target", "rent", "--name", "rent", "--drop", "id")
    card = cards.read(tmp_path / "models" / "rent.joblib")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    r2, mae = card.metrics["r2_mean"], card.metrics["mae_mean"]
    what = "predicts rent from 3 columns, trained on 120 rows, models/rent.joblib"
    assert lines[:3] == [
        f"{card.id}: {what}",
        "task: regression, its values are numbers with fractions",
        "model: ridge, the table has fewer than 1,000 rows",
    ]
    assert lines[3].split()[-5:] == ["model", "always", "the", "mean,", "1342.41"]
    assert lines[4].split()[:4] == ["R²", f"{r2:.3f}", "±", f"{card.metrics['r2_std']:.3f}"]
    assert lines[5].split()[:4] == ["mean", "absolute", "error", f"{mae:.4g}"]
    assert lines[-3] == "Next: PETAL_MODEL=models/rent.joblib petal up, or for the first row:"
    setting, *command = shlex.split(lines[-1])
    assert (setting, command[:2]) == ("PETAL_MODEL=models/rent.joblib", ["petal", "predict"])
    os.environ["PETAL_MODEL"] = setting.partition("=")[2]
    answer = run(*command[1:])
    model = artifact.load(tmp_path / "models" / "rent.joblib").model
    first = pd.DataFrame([{"living area": float(command[2]), "kind": command[3], "balcony": True}])
    first["balcony"] = command[4] == "true"
    assert answer.output == f"{model.predict(first)[0]}\n"


def test_a_row_of_many_columns_is_asked_by_name(run: Petal, tmp_path: Path) -> None:
    table = pd.DataFrame({f"column {n}": np.arange(40) % (n + 2) for n in range(8)})
    table["two words"] = ["it's a", "plain"] * 20
    table.assign(y=["yes", "no"] * 20).to_csv(tmp_path / "t.csv", index=False)
    done = run("train", "t.csv", "--target", "y", "--output", "t.joblib")
    setting, *command = shlex.split(done.stdout.splitlines()[-1])
    assert command[:3] == ["petal", "predict", "--row"]
    os.environ["PETAL_MODEL"] = setting.partition("=")[2]
    assert run(*command[1:]).output == "yes\n"


def test_a_table_of_many_columns_is_asked_as_a_file(
    run: Petal, shell: Pipeline, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(60, 300))).round(2).add_prefix("g")
    table["y"] = np.where(table["g0"] > 0, "up", "down")
    path = tmp_path / "wide.tsv"
    table.to_csv(path, sep="\t", index=False)
    done = run("train", "wide.tsv", "--target", "y", "--output", "w.joblib")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (
        0, "PETAL_MODEL=w.joblib petal ask < wide.tsv",
    )  # fmt: skip
    shell.env["PETAL_MODEL"] = str(tmp_path / "w.joblib")
    asked = shell.run("ask", stdin=path.read_text())
    labels = [line.split()[0] for line in asked.stdout.splitlines()]
    assert (asked.returncode, labels) == (0, table["y"].tolist())
    assert asked.stderr == "petal: columns that the model does not use: y\n"


def test_json_is_the_card(run: Petal, homes: Path, tmp_path: Path) -> None:
    done = run("train", str(homes), "--target", "rent", "--output", "r.joblib", "--json")
    assert json.loads(done.stdout) == json.loads((tmp_path / "r.json").read_text())
    assert done.stderr == "petal: column id looks like an id; to leave it out: --drop id\n"
    assert cards.read(tmp_path / "r.joblib").name == "my homes"


def test_standard_input_is_a_table(run: Petal, homes: Path, tmp_path: Path) -> None:
    done = run("train", "-", "--target", "rent", stdin=homes.read_bytes())
    assert (done.exit_code, cards.read(tmp_path / "models" / "rent.joblib").name) == (0, "rent")


def test_a_model_of_the_same_name_is_replaced_and_no_other(
    run: Petal, homes: Path, tmp_path: Path
) -> None:
    command = ("train", homes.name, "--target", "rent", "--output", "r.joblib")
    assert run(*command, "--name", "a").exit_code == 0
    assert run(*command, "--name", "a", "--drop", "id").exit_code == 0
    kept = (tmp_path / "r.joblib").read_bytes()
    for name, of in (("b", "holds another model, a"), ("a", "is not the file that its card")):
        if name == "a":
            (tmp_path / "r.joblib").write_bytes(kept + b" ")
        refused = run(*command, "--name", name)
        assert isinstance(refused.exception, Exception)
        assert of in str(refused.exception)
        assert exit_codes.code_of(refused.exception) == os.EX_CONFIG
    assert (tmp_path / "r.joblib").read_bytes() == kept + b" "


def test_the_example_is_neither_replaced_by_a_table_nor_replaces_it(
    run: Petal, homes: Path, tmp_path: Path
) -> None:
    assert run("train").exit_code == 0
    refused = run("train", str(homes), "--target", "rent", "--name", "iris")
    assert "a model named iris that `petal train FILE` did not make" in str(refused.exception)
    command = ("train", str(homes), "--target", "rent", "--name", "iris", "--output", "i.joblib")
    assert run(*command).exit_code == 0
    refused = run("train", "--output", "i.joblib")
    assert "a model named iris that `petal train` did not make" in str(refused.exception)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["my homes.csv", "--target", "rents"], 65,
         "there is no column 'rents'; did you mean: rent"),
        (["no.csv", "--target", "x"], 66, "no.csv cannot be read: No such file or directory"),
        (["my homes.csv", "--target", "rent", "--name", "a/b"], 78,
         "'a/b' cannot be a model's name"),
        (["my homes.csv", "--target", "kind", "--task", "regression"], 65,
         "regression needs numbers, and the target kind has"),
        (["my homes.csv", "--target", "rent", "--encoding", "x"], 65, "there is no encoding 'x'"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_with_a_code(
    run: Petal, homes: Path, arguments: list[str], code: int, sentence: str
) -> None:
    refused = run("train", *arguments)
    assert isinstance(refused.exception, Exception)
    assert sentence in str(refused.exception)
    assert exit_codes.code_of(refused.exception) == code


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["my homes.csv"],
         "--target is missing, the column to predict; the columns are: id, living area, kind, "
         "balcony, rent"),
        (["--target", "x"],
         "--target is for a table: petal train FILE --target COLUMN; without FILE the example is "
         "trained"),
        (["--model", "forest"], "--model is for a table"),
        (["--drop", "x"], "--drop is for a table"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_a_usage_error(
    run: Petal, homes: Path, arguments: list[str], sentence: str
) -> None:
    refused = run("train", *arguments)
    assert refused.exit_code == exit_codes.USAGE
    assert f"Error: {sentence}" in refused.stderr


def test_a_model_without_a_use_is_called_so(run: Petal, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"x": random.normal(size=80), "y": random.normal(size=80)})
    table.to_csv(tmp_path / "t.csv", index=False)
    done = run("train", "t.csv", "--target", "y")
    assert done.stderr == (
        f"petal: the model is no better than always the mean, {table['y'].mean():.6g}; do its "
        "columns say anything?\n"
    )


def test_a_shell_gets_one_line_and_a_code(shell: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n1,2,3\n")
    done = shell.run("train", str(path), "--target", "b")
    line = f"petal: {path}: line 3 has another number of values (3) than the header has names (2)\n"
    assert (done.returncode, done.stdout, done.stderr) == (65, "", line)
