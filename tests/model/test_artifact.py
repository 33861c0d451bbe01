"""An artifact is unpickled only if it is the file that its card pins."""

import hashlib
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from model import artifact
from model import card as cards
from model.card import Feature
from model.errors import ArtifactError, CardError
from model.predict import predict
from model.train import load, make_card, train

X, Y, FEATURES = load()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "iris.joblib"
    artifact.save(*train(seed=0), path)
    return path


def rewrite(path: Path, was: Any = None, **changes: Any) -> None:
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
    with pytest.raises(ArtifactError, match="not the file that its card describes"):
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
    with pytest.raises(ArtifactError, match="It was not opened"):
        artifact.load(saved)
    assert not sung.exists()
    joblib.load(saved)
    assert sung.exists(), "the canary cannot sing: this test would show nothing"


def test_another_version_of_scikit_learn_is_refused_and_says_what_to_do(saved: Path) -> None:
    rewrite(saved, libraries={"scikit-learn": "0.1"})
    with pytest.raises(ArtifactError, match=r"scikit-learn 0\.1, the installed .*petal train"):
        artifact.load(saved)


def test_a_model_of_a_table_is_retrained_with_the_command_that_made_it(saved: Path) -> None:
    libraries = {"scikit-learn": "0.1"}
    rewrite(saved, name="rent", creator=cards.TABLE_CREATOR, libraries=libraries)
    with pytest.raises(ArtifactError, match=r"; retrain: petal train FILE$"):
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
    [
        ({"a": 1}, "a dict, which has no method predict"),
        (LogisticRegression(), "its LogisticRegression is not fitted; call fit"),
        (LogisticRegression, "not hold a scikit-learn estimator; save an instance of a BaseEst"),
        (b"", r"cannot be read .*; retrain: petal train"),
    ],
)
def test_a_pinned_file_that_holds_no_fitted_estimator_is_refused(
    saved: Path, content: Any, fault: str
) -> None:
    if content == b"":
        saved.write_bytes(b"")
    else:
        joblib.dump(content, saved)
    rewrite(saved, sha256=hashlib.sha256(saved.read_bytes()).hexdigest())
    with pytest.raises(ArtifactError, match=fault):
        artifact.load(saved)


def test_a_pinned_file_that_ends_too_early_is_refused(saved: Path) -> None:
    data = saved.read_bytes()[:-40]
    saved.write_bytes(data)
    rewrite(saved, sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(ArtifactError, match=r"cannot be read .*; retrain: petal train"):
        artifact.load(saved)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"features": tuple(FEATURES[:3])}, "it takes 4 features, its card has 3"),
        ({"kind": "regressor"}, "it is a classifier, its card has regressor"),
        (
            {"classes": ("a", "b", "c")},
            "its classes are ('setosa', 'versicolor', 'virginica'), its card has ('a', 'b', 'c')",
        ),
        ({"proba": False}, "it has predict_proba, its card has proba=False"),
    ],
)
def test_a_card_of_another_model_is_refused(
    saved: Path, changes: dict[str, Any], fault: str
) -> None:
    rewrite(saved, **changes)
    with pytest.raises(ArtifactError) as refused:
        artifact.load(saved)
    assert str(refused.value) == f"{saved} cannot be served: {fault}"


OWN_FAULTS: dict[str, Any] = {
    "no card": lambda path: cards.card_path(path).unlink(),
    "broken card": lambda path: cards.card_path(path).write_text("{"),
    "other bytes": lambda path: path.write_bytes(b"other"),
    "no artifact": lambda path: path.unlink(),
    "other version": lambda path: rewrite(path, libraries={"scikit-learn": "0.1"}),
    "no pickle": lambda path: rewrite(path, sha256=artifact.digest(b""), was=path.write_bytes(b"")),
}


@pytest.mark.parametrize("fault", OWN_FAULTS)
def test_whatever_is_wrong_with_a_model_of_ones_own_nothing_says_that_petal_train_makes_it(
    tmp_path: Path, fault: str
) -> None:
    path = tmp_path / "own.joblib"
    model = LinearRegression().fit(X[:, :1], X[:, 2])
    artifact.save(model, make_card("own", model, FEATURES[:1]), path)
    OWN_FAULTS[fault](path)
    with pytest.raises(ArtifactError, match=r"model\.artifact\.save \(README\.md") as refused:
        artifact.load(path)
    advice = str(refused.value).partition("petal train alone makes the example and does not")[0]
    assert "petal train" not in advice


def unequal_outputs() -> Any:
    return KNeighborsClassifier().fit(X, np.c_[X[:, 0] > 5, (X[:, 1] * 2).astype(int)])


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (LinearRegression().fit(X[:, :2], X[:, 2:]), "several values for a row"),
        (KNeighborsClassifier().fit(X, X[:, :2] > 4), "several values for a row"),
        (unequal_outputs(), "several values for a row"),
        (LinearRegression(), "is not fitted; call fit before you save it"),
    ],
)
def test_a_model_that_load_would_refuse_is_not_saved(
    tmp_path: Path, model: Any, fault: str
) -> None:
    features = FEATURES[: getattr(model, "n_features_in_", 4)]
    with pytest.raises(ArtifactError, match=fault):
        artifact.save(model, make_card("odd", model, features), tmp_path / "odd.joblib")
    assert list(tmp_path.iterdir()) == []


def test_integer_labels_and_a_regressor_are_saved_and_loaded(tmp_path: Path) -> None:
    integers = RandomForestClassifier(5, random_state=0).fit(X, (X[:, 2] > 2).astype(int))
    numbers = LinearRegression().fit(X[:, :3], X[:, 3])
    for model, features in ((integers, FEATURES), (numbers, FEATURES[:3])):
        path = tmp_path / f"{type(model).__name__}.joblib"
        card = artifact.save(model, make_card("own", model, features), path)
        loaded = artifact.load(path)
        assert loaded.card == card
        rows = X[:, : len(features)]
        assert predict(loaded.model, rows) == predict(model, rows)


def named(*columns: str) -> Any:
    """The example as if it were fitted on a DataFrame of these columns."""
    model, _ = train(seed=0)
    model.feature_names_in_ = np.array(columns, dtype=object)
    return model


def test_a_card_that_swaps_the_columns_of_a_data_frame_is_refused(tmp_path: Path) -> None:
    model = named(*reversed([feature.name for feature in FEATURES]))
    with pytest.raises(ArtifactError, match="in the order petal_width, petal_length, sepal_width"):
        artifact.save(model, make_card("odd", model, FEATURES), tmp_path / "odd.joblib")


def test_a_model_of_a_data_frame_is_refused_where_pandas_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = named(*(feature.name for feature in FEATURES))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ArtifactError, match="pip install pandas"):
        artifact.save(model, make_card("odd", model, FEATURES), tmp_path / "odd.joblib")


@pytest.mark.parametrize(
    ("name", "fault"),
    [("file/iris.joblib", "cannot be written"), ("iris.json", r"end the .* name with \.joblib")],
)
def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path, name: str, fault: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match=fault):
        artifact.save(*train(seed=0), tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failed_save_leaves_what_was_there_and_no_part(saved: Path) -> None:
    taken = saved.parent / "taken.joblib"
    taken.mkdir()
    with pytest.raises(ArtifactError, match="cannot be written"):
        artifact.save(*train(seed=0), taken)
    assert sorted(p.name for p in saved.parent.iterdir()) == [
        "iris.joblib", "iris.json", "taken.joblib"
    ]  # fmt: skip


def test_a_card_with_a_number_that_json_cannot_hold_is_not_saved(tmp_path: Path) -> None:
    model, _ = train(seed=0)
    card = make_card("odd", model, FEATURES, {"r2": float("nan")})
    with pytest.raises(ArtifactError, match="cannot be JSON"):
        artifact.save(model, card, tmp_path / "odd.joblib")
    assert list(tmp_path.iterdir()) == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A write beyond `size` bytes of a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("fits", ["neither", "artifact"])
def test_on_a_full_disk_both_files_stay_as_they_were(saved: Path, fits: str) -> None:
    model, card = train(seed=1)
    long = msgspec.structs.replace(card, metrics={f"metric {n}": 0.5 for n in range(999)})
    before = saved.read_bytes(), cards.card_path(saved).read_bytes()
    size = 100 if fits == "neither" else len(before[0]) + 1000
    with (
        pytest.raises(ArtifactError, match=r"cannot be written \(File too large\)"),
        files_of_at_most(size),
    ):
        artifact.save(model, long, saved)
    assert (saved.read_bytes(), cards.card_path(saved).read_bytes()) == before
    assert len(list(saved.parent.iterdir())) == 2
    artifact.load(saved)


def test_a_pipe_is_refused_and_not_read(saved: Path) -> None:
    saved.unlink()
    os.mkfifo(saved)
    with pytest.raises(ArtifactError, match="not a regular file"):
        artifact.load(saved)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "a/b", "/", "a\\b", "stats", "a\nb", "a\x7f", "a\u2028b", "\ud800"],
)
def test_a_name_that_no_url_can_hold_is_refused_with_the_rule(tmp_path: Path, name: str) -> None:
    model, _ = train(seed=0)
    with pytest.raises(ArtifactError, match=r"must not be empty, begin with a dot, or contain a"):
        artifact.save(model, make_card(name, model, FEATURES), tmp_path / "odd.joblib")
    assert list(tmp_path.iterdir()) == []


NUMBER_TYPES: list[Any] = [np.float64, np.float32, np.int64, np.uint8, type(pd.Series([1]).max())]
YES: Any = np.bool_(True)
SEVEN: Any = np.int64(7)


@pytest.mark.parametrize("kind", NUMBER_TYPES)
def test_a_card_takes_the_numbers_and_texts_of_numpy_and_pandas(tmp_path: Path, kind: Any) -> None:
    model = LinearRegression().fit(X[:, :2], X[:, 2])
    frame = pd.DataFrame({"kind": pd.Categorical(["a", "b"])})
    features = [
        Feature(name=np.str_("size"), minimum=kind(1), maximum=kind(3)),
        Feature(name="kind", categories=frame.kind.cat.categories, nullable=YES),
    ]
    card = make_card(np.str_("own"), model, features, {"r2": kind(1)}, seed=SEVEN)
    saved = artifact.save(model, card, str(tmp_path / "own.joblib"))
    assert saved.features == (
        Feature(name="size", minimum=1.0, maximum=3.0),
        Feature(name="kind", categories=("a", "b"), nullable=True),
    )
    assert (saved.name, saved.metrics, saved.seed) == ("own", {"r2": 1.0}, 7)
    assert artifact.load(str(tmp_path / "own.joblib")).card == saved


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"minimum": "low"},
            r"Expected `float \| null`, got `str` - at `\$.features\[0\]\.minimum",
        ),
        ({"minimum": pd.NA}, "a value of type NAType is not JSON"),
        ({"categories": ((1,), (2,))}, "Expected `bool | int | float | str`, got `array`"),
        ({"type": "text", "categories": (1, 2)}, "has the type text, and its categories are"),
    ],
)
def test_a_card_that_does_not_fit_names_the_field(tmp_path: Path, changes: Any, fault: str) -> None:
    model = LinearRegression().fit(X[:, :1], X[:, 2])
    with pytest.raises(CardError, match=fault):
        make_card("own", model, [Feature(name="x", **changes)])
