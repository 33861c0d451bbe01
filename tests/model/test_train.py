"""Training is deterministic, and its card says what was trained."""

import hashlib
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LinearRegression

from cli.train import train as command
from model import artifact, train
from model import card as cards
from model.card import Card, Feature
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


@pytest.mark.parametrize("seed", ["-1", "4294967296", "x"])
def test_a_seed_that_cannot_be_used_is_a_usage_error(tmp_path: Path, seed: str) -> None:
    path = tmp_path / "iris.joblib"
    done = CliRunner().invoke(command, ["--seed", seed, "--output", str(path)])
    assert (done.exit_code, path.exists()) == (2, False)
    assert "Invalid value for '--seed'" in done.stderr


def test_the_help_ends_with_a_line_to_paste() -> None:
    done = CliRunner().invoke(command, ["--help"])
    assert done.stdout.splitlines()[-1].strip() == "Example:  petal train --seed 0"
