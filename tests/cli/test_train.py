"""`petal train` in a shell: the same seed, the same bytes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from model import artifact as artifacts
from model import card as cards
from tests.processes import Pipeline


@pytest.fixture
def trained(shell: Pipeline, tmp_path: Path) -> Path:
    """An artifact of the default seed, made where the setting says."""
    path = tmp_path / "setting" / "iris.joblib"
    shell.env["PETAL_MODEL"] = str(path)
    assert shell.run("train").returncode == 0
    return path


def train(shell: Pipeline, path: Path, *options: str) -> Any:
    done = shell.run("train", "--output", str(path), *options)
    assert (done.returncode, done.stderr) == (0, "")
    return done


def test_the_same_seed_gives_the_same_bytes_and_the_same_card(
    shell: Pipeline, trained: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.joblib"
    train(shell, again, "--seed", "0")
    assert again.read_bytes() == trained.read_bytes()
    assert cards.card_path(again).read_bytes() == cards.card_path(trained).read_bytes()
    assert cards.read(again).sha256 == hashlib.sha256(again.read_bytes()).hexdigest()


def test_the_shell_gives_the_same_artifact_as_python(trained: Path, artifact: Path) -> None:
    assert trained.read_bytes() == artifact.read_bytes()
    assert cards.read(trained) == cards.read(artifact)


def test_one_line_has_the_model_its_accuracy_and_its_path(
    shell: Pipeline, artifact: Path, tmp_path: Path
) -> None:
    path = tmp_path / "iris.joblib"
    card = cards.read(artifact)
    mean, std = card.metrics["accuracy_mean"], card.metrics["accuracy_std"]
    line = f"{card.id}: accuracy {mean:.3f} ± {std:.3f} in cross-validation, {path}\n"
    assert train(shell, path).stdout == line


def test_json_is_the_card(shell: Pipeline, artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "iris.joblib"
    done = train(shell, path, "--json")
    assert done.stdout == cards.card_path(path).read_text()
    assert json.loads(done.stdout) == json.loads(cards.card_path(artifact).read_text())


def test_another_seed_is_allowed_and_named_in_the_card(
    shell: Pipeline, artifact: Path, tmp_path: Path
) -> None:
    path = tmp_path / "iris.joblib"
    train(shell, path, "--seed", "7")
    card, default = artifacts.load(path).card, cards.read(artifact)
    assert (card.seed, default.seed) == (7, 0)
    assert (card.features, card.classes) == (default.features, default.classes)


def test_what_was_trained_answers(shell: Pipeline, trained: Path) -> None:
    assert shell.run("predict", "6.0", "2.9", "4.5", "1.5").stdout == "versicolor\n"


def test_another_model_is_not_replaced_by_the_example(
    shell: Pipeline, trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.joblib"
    model, card = artifacts.load(trained)
    artifacts.save(model, msgspec.structs.replace(card, name="mine"), path)
    before = path.read_bytes()
    done = shell.run("train", "--output", str(path))
    line = f"petal: {path} holds another model, mine; choose another path with --output\n"
    assert (done.returncode, done.stderr) == (78, line)
    assert path.read_bytes() == before
    train(shell, trained)  # the example itself is replaced


def test_a_path_that_cannot_be_written_is_reported_in_one_line(
    shell: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "iris.joblib"
    done = shell.run("train", "--output", str(path))
    line = f"petal: {path} cannot be written (File exists); choose another path\n"
    assert (done.returncode, done.stdout, done.stderr) == (78, "", line)
