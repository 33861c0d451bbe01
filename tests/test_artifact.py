"""An artifact is unpickled only if it is the file that its card pins."""

import hashlib
import os
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pytest

from model import artifact
from model import card as cards
from model.artifact import ArtifactError
from model.card import Card
from model.predict import predict
from model.train import train


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "iris.joblib"
    artifact.save(*train(seed=0), path)
    return path


def rewrite(path: Path, **changes: Any) -> None:
    card = msgspec.structs.replace(cards.read(path), **changes)
    cards.card_path(path).write_bytes(cards.encode(card))


def test_what_is_loaded_predicts_as_what_was_saved(saved: Path) -> None:
    model, _ = train(seed=0)
    X = np.array([[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]])
    assert predict(artifact.load(saved).model, X) == predict(model, X)


def test_the_card_pins_the_bytes_and_the_versions(saved: Path) -> None:
    card = artifact.load(saved).card
    assert card.sha256 == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert card.libraries == artifact.libraries()


def test_saving_leaves_no_other_files(saved: Path) -> None:
    assert sorted(p.name for p in saved.parent.iterdir()) == ["iris.joblib", "iris.json"]


def test_one_changed_byte_is_refused(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[len(data) // 2] ^= 1
    saved.write_bytes(data)
    with pytest.raises(ArtifactError, match="not the file its card was made for"):
        artifact.load(saved)


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self._folder,)


def test_a_foreign_pickle_is_never_opened(saved: Path) -> None:
    sung = saved.parent / "sung"
    joblib.dump(Canary(sung), saved)
    with pytest.raises(ArtifactError, match="it was not opened"):
        artifact.load(saved)
    assert not sung.exists()
    joblib.load(saved)
    assert sung.exists(), "the canary cannot sing: this test would show nothing"


def test_another_version_of_scikit_learn_is_refused_and_told_what_to_do(saved: Path) -> None:
    rewrite(saved, libraries={"scikit-learn": "0.1"})
    with pytest.raises(ArtifactError, match=r"scikit-learn 0\.1, here is .*petal train"):
        artifact.load(saved)


@pytest.mark.parametrize("what", ["artifact", "card", "folder"])
def test_a_missing_part_says_what_to_do(saved: Path, what: str) -> None:
    (cards.card_path(saved) if what == "card" else saved).unlink()
    if what == "folder":
        saved.mkdir()
    with pytest.raises(ArtifactError, match="petal train"):
        artifact.load(saved)


@pytest.mark.parametrize(
    ("content", "fault"),
    [({"a": 1}, "a dict, which has no predict"), (b"", "cannot be read")],
)
def test_a_pinned_file_that_holds_no_estimator_is_refused(
    saved: Path, content: Any, fault: str
) -> None:
    if content == b"":
        saved.write_bytes(b"")
    else:
        joblib.dump(content, saved)
    rewrite(saved, sha256=hashlib.sha256(saved.read_bytes()).hexdigest())
    with pytest.raises(ArtifactError, match=fault):
        artifact.load(saved)


def test_a_card_for_another_number_of_features_is_refused(saved: Path) -> None:
    card: Card = cards.read(saved)
    rewrite(saved, features=card.features[:3])
    with pytest.raises(ArtifactError, match="wants 4 features, its card names 3"):
        artifact.load(saved)
