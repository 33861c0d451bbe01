"""Training is deterministic, and its card says what was trained."""

import hashlib
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression

from cli.exit_codes import code_of
from cli.train import train as command
from model import artifact, train
from model import card as cards
from model.card import Card, Feature
from model.errors import ArtifactError, CardError
from tests.processes import ROOT, clean_environ


def test_the_same_seed_gives_the_same_artifact(tmp_path: Path) -> None:
    first = artifact.save(*train.train(seed=3), tmp_path / "a.joblib")
    second = artifact.save(*train.train(seed=3), tmp_path / "b.joblib")
    assert first == second
    assert (tmp_path / "a.joblib").read_bytes() == (tmp_path / "b.joblib").read_bytes()


def test_the_card_describes_the_data_and_the_quality() -> None:
    _, card = train.train(seed=0)
    assert card.features == (
        Feature(name="sepal_length", unit="cm", minimum=4.3, maximum=7.9),
        Feature(name="sepal_width", unit="cm", minimum=2.0, maximum=4.4),
        Feature(name="petal_length", unit="cm", minimum=1.0, maximum=6.9),
        Feature(name="petal_width", unit="cm", minimum=0.1, maximum=2.5),
    )
    assert card.classes == ("setosa", "versicolor", "virginica")
    assert (card.kind, card.proba, card.seed) == ("classifier", True, 0)
    assert 0.93 < card.metrics["accuracy_mean"] <= 1.0


def test_the_evaluation_counts_every_flower_once() -> None:
    data = train.load()
    scores = train.evaluate(train.estimator(0), data, seed=0)
    assert scores.confusion.sum() == len(data.X) == 150
    assert np.isclose(scores.accuracy.mean(), scores.confusion.trace() / 150)


def test_a_regressor_has_a_card_without_classes() -> None:
    data = train.load()
    model = LinearRegression().fit(data.X[:, :3], data.X[:, 3])
    card = train.make_card("width", model, data.features[:3])
    assert (card.kind, card.classes, card.proba) == ("regressor", (), False)


def test_a_feature_with_gaps_may_be_missing_and_has_the_range_of_the_rest() -> None:
    X = np.array([[1.0, np.nan], [3.0, 2.0]])
    assert train.describe(X, ["a", "b"], unit="m") == [
        Feature(name="a", unit="m", minimum=1.0, maximum=3.0),
        Feature(name="b", unit="m", minimum=2.0, maximum=2.0, nullable=True),
    ]


TABLES: Any = {
    "numbers": ([[1, 2.5], [3, None]], (1.0, 3.0, False), (2.5, 2.5, True)),
    "numpy integers": (np.array([[1, 5], [3, 4]]), (1.0, 3.0, False), (4.0, 5.0, False)),
    "float32": (np.array([[1, np.nan], [3, 4]], dtype="float32"),
                (1.0, 3.0, False), (4.0, 4.0, True)),
    "infinite": (np.array([[1, np.inf], [3, 4]]), (1.0, 3.0, False), (4.0, 4.0, False)),
    "nothing": (np.array([[1, np.nan], [3, np.nan]]), (1.0, 3.0, False), (None, None, True)),
    "objects": (np.array([[np.int8(1), 4], [3, np.nan]], dtype=object),
                (1.0, 3.0, False), (4.0, 4.0, True)),
    "frame": (pd.DataFrame({"a": [1, 3], "b": pd.array([4, None], dtype="Int64")}),
              (1.0, 3.0, False), (4.0, 4.0, True)),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_numbers_of_any_table_have_their_range(kind: str) -> None:
    table, *expected = TABLES[kind]
    names: Any = np.array(["a", "b"])
    found = [(f.name, (f.minimum, f.maximum, f.nullable)) for f in train.describe(table, names)]
    assert found == list(zip("ab", expected, strict=True))


TEXTS: Any = {
    "numpy": np.array([["x"], ["y"]]),
    "numpy 2": np.array([["x"], ["y"]], dtype=np.dtypes.StringDType()),
    "lists": [["x"], ["y"]],
    "objects": np.array([[np.str_("x")], ["y"]], dtype=object),
    "frame": pd.DataFrame({"a": ["x", "y"]}),
    "frame of objects": pd.DataFrame({"a": ["x", "y"]}, dtype=object),
    "frame of strings": pd.DataFrame({"a": ["x", "y"]}, dtype="string"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_of_any_table_are_a_text_feature(kind: str) -> None:
    [feature] = train.describe(TEXTS[kind], ["a"])
    assert replace(feature, dtype="") == Feature(name="a", type="text")


def test_the_columns_of_a_frame_are_named_and_have_their_categories() -> None:
    frame = pd.DataFrame({
        "size": [20.0, 40.0],
        "kind": pd.Categorical(["flat", None], categories=["flat", "house"]),
        "note": ["a", None],
    })  # fmt: skip
    assert train.describe(frame) == [
        Feature(name="size", minimum=20.0, maximum=40.0),
        Feature(
            name="kind",
            type="text",
            dtype="category",
            categories=("flat", "house"),
            nullable=True,
            missing="nan",
        ),
        Feature(name="note", type="text", dtype="str", nullable=True, missing="nan"),
    ]


@pytest.mark.parametrize(
    ("table", "names", "fault"),
    [
        ([["x"], [1]], ["a"], "column 'a' holds values that are neither all numbers nor all texts"),
        (pd.DataFrame({"a": pd.to_timedelta(["1D"])}), None, r"'a' has the dtype timedelta64\["),
        (pd.DataFrame({"a": pd.period_range("2020", periods=1)}), None, r"the dtype period\[D\];"),
        (
            pd.DataFrame({"a": pd.cut([1, 2], 2)}),
            None,
            r"neither all .* \(Interval\); make numbers",
        ),
        (pd.DataFrame({"a": [1j]}), None, "'a' has the dtype complex128; make numbers, texts"),
        (pd.DataFrame({"a": [b"x"]}), None, r"nor all texts \(bytes\); make numbers, texts"),
        (pd.DataFrame({"a": [date(2020, 1, 1)]}), None, r"\(date\); .*pd.to_datetime"),
        (pd.DataFrame({"a": [1, "x"]}), None, r"nor all texts \(int, str\)"),
        (np.array([["2020-01-01"]], "M8[D]"), ["a"], r"of an array has the dtype .*a DataFrame"),
        (pd.DataFrame([[1]], columns=[["a"], ["b"]]), None, "the columns' names have 2 levels"),
        (["x", "y"], ["a"], r"a table has the shape \(rows, features\), this one has \(2,\)"),
        ([[1, 2]], ["a"], "the table has 2 columns, and there are 1 names"),
        ([[1, 2]], None, "the table has 2 columns, and there are no names"),
    ],
)
def test_a_table_that_cannot_be_described_says_why(table: Any, names: Any, fault: str) -> None:
    with pytest.raises(CardError, match=fault):
        train.describe(table, names)


def test_the_command_prints_one_line_with_id_accuracy_and_path(tmp_path: Path) -> None:
    path = tmp_path / "new" / "iris.joblib"
    done = CliRunner().invoke(command, ["--output", str(path)])
    card = artifact.load(path).card
    mean, std = card.metrics["accuracy_mean"], card.metrics["accuracy_std"]
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        f"{card.id}: accuracy {mean:.3f} ± {std:.3f} in cross-validation, {path}\n"
    )


def test_the_command_prints_the_card_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "iris.joblib"
    done = CliRunner().invoke(command, ["--seed", "7", "--json", "--output", str(path)])
    assert done.stdout == cards.card_path(path).read_text()
    assert msgspec.json.decode(done.stdout, type=Card).seed == 7


def test_without_an_output_the_setting_says_where(tmp_path: Path) -> None:
    path = tmp_path / "set.joblib"
    done = CliRunner(env={"PETAL_MODEL": str(path)}).invoke(command, [])
    assert done.stdout.endswith(f", {path}\n")
    assert path.is_file()


def test_two_runs_of_the_command_give_the_same_digest(tmp_path: Path) -> None:
    paths = [tmp_path / "a.joblib", tmp_path / "b.joblib"]
    for path in paths:
        subprocess.run(
            [sys.executable, "-m", "cli", "train", "--output", path],
            cwd=ROOT, env=clean_environ(), capture_output=True, check=True,
        )  # fmt: skip
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert digests == {cards.read(paths[0]).sha256}


def own_model(path: Path, **changes: Any) -> bytes:
    """A regressor at `path`, saved with a card; returns its bytes."""
    data = train.load()
    model = LinearRegression().fit(data.X[:, :3], data.X[:, 3])
    card = train.make_card("width", model, data.features[:3])
    artifact.save(model, msgspec.structs.replace(card, **changes), path)
    return path.read_bytes()


def without_card(path: Path) -> None:
    own_model(path)
    cards.card_path(path).unlink()


def with_broken_card(path: Path) -> None:
    own_model(path)
    cards.card_path(path).write_text("{")


def with_a_card_of_the_example(path: Path) -> None:
    artifact.save(*train.train(seed=0), path)
    own_model(path.with_name("own.joblib"))
    path.write_bytes(path.with_name("own.joblib").read_bytes())


def of_the_same_name(path: Path) -> None:
    data = train.load()
    model = RandomForestClassifier(3).fit(data.X, data.y)
    artifact.save(model, train.make_card("iris", model, data.features), path)


def like_the_example(path: Path) -> None:
    model, card = train.train(seed=0)
    model.set_params(C=2.0).fit(train.load().X, train.load().y)
    artifact.save(model, msgspec.structs.replace(card, creator=""), path)


def with_data_beside_it(path: Path) -> None:
    cards.card_path(path).write_text('{"rows": [1, 2, 3]}')


OWN_MODELS = {
    without_card: "may be a model of your own, because it has no card that can be read",
    with_broken_card: "may be a model of your own, because it has no card that can be read",
    own_model: "holds another model, width",
    with_a_card_of_the_example: "is not the file that its card describes",
    of_the_same_name: "holds a model named iris that `petal train` did not make",
    like_the_example: "holds a model named iris that `petal train` did not make",
    with_data_beside_it: "may be a model of your own, because it has no card that can be read",
}


@pytest.mark.parametrize("kind", OWN_MODELS)
def test_a_model_that_is_not_the_examples_is_not_replaced(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "model.joblib"
    kind(path)
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    done = CliRunner(env={"PETAL_MODEL": str(path)}).invoke(command, [])
    assert isinstance(done.exception, ArtifactError)
    expected = f"{path} {OWN_MODELS[kind]}; choose another path with --output"
    assert str(done.exception) == expected
    assert code_of(done.exception) == 78
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("lost", ["nothing", "artifact", "version"])
def test_the_example_is_replaced(tmp_path: Path, earlier: bool, lost: str) -> None:
    path = tmp_path / "iris.joblib"
    model, card = train.train(seed=4)
    changes: dict[str, Any] = {"creator": ""} if earlier else {}
    saved = artifact.save(model, msgspec.structs.replace(card, **changes), path)
    if lost == "artifact":
        path.unlink()
    if lost == "version":
        older = msgspec.structs.replace(saved, libraries={"scikit-learn": "1.0"})
        cards.card_path(path).write_bytes(cards.encode(older))
    done = CliRunner().invoke(command, ["--output", str(path)])
    assert (done.exit_code, artifact.load(path).card.seed) == (0, 0)


@pytest.mark.parametrize("seed", ["-1", "4294967296", "x"])
def test_a_seed_that_cannot_be_used_is_a_usage_error(tmp_path: Path, seed: str) -> None:
    path = tmp_path / "iris.joblib"
    done = CliRunner().invoke(command, ["--seed", seed, "--output", str(path)])
    assert (done.exit_code, path.exists()) == (2, False)
    assert "Invalid value for '--seed'" in done.stderr


def test_the_help_ends_with_a_line_to_paste() -> None:
    done = CliRunner().invoke(command, ["--help"])
    assert done.stdout.splitlines()[-1].strip() == (
        "Example:  petal train houses.csv --target price --drop id"
    )
