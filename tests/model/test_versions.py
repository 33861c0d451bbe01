"""Promotions and rollbacks replace a pair of files such that each moment has one whole model."""

import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from model import artifact, versions
from model import card as cards
from model.card import Card, Feature
from model.compatibility import differences
from model.errors import ArtifactError, NotPromoted, NotWritten, SourceNotFound
from tests.model.several import save_constant, save_loan, save_rent
from tests.model.test_artifact import files_of_at_most


def answer(path: Path) -> float:
    return float(artifact.load(path).model.predict([[0.0]])[0])


@pytest.fixture
def new(tmp_path: Path) -> dict[float, Path]:
    """Versions of a model that answer 1 to 9, each saved somewhere."""
    paths = {float(n): tmp_path / "new" / f"{n}.joblib" for n in range(1, 10)}
    for value, path in paths.items():
        save_constant(path, "line", value)
    return paths


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The place of the live model, which answers 0."""
    path = tmp_path / "live" / "line.joblib"
    save_constant(path, "line", 0.0)
    return path


def kept(live: Path) -> list[tuple[float, bool]]:
    """What each version answers, the newest first, and whether it is live."""
    return [
        (answer(cards.kept_path(live, card.sha256)), is_live)
        for card, _, is_live in versions.listed(live)
    ]


def test_a_promotion_copies_artifact_and_card_and_keeps_the_former(
    live: Path, new: dict[float, Path]
) -> None:
    former = cards.read(live)
    promoted = versions.promote(new[1.0], live)
    assert (promoted.card, promoted.before) == (cards.read(new[1.0]), former)
    assert live.read_bytes() == new[1.0].read_bytes()
    assert cards.card_path(live).read_bytes() == cards.card_path(new[1.0]).read_bytes()
    assert kept(live) == [(1.0, True), (0.0, False)]
    assert sorted(p.name for p in live.parent.iterdir()) == [
        ".line.joblib.versions", "line.joblib", "line.json"
    ]  # fmt: skip


def test_a_first_promotion_needs_no_former_model(tmp_path: Path, new: dict[float, Path]) -> None:
    live = tmp_path / "none" / "line.joblib"
    assert versions.promote(new[1.0], live).before is None
    assert (answer(live), kept(live)) == (1.0, [(1.0, True)])
    with pytest.raises(NotPromoted, match="no version before line@"):
        versions.rollback(live)


def test_rollbacks_go_back_one_by_one_and_promotions_follow_the_live_version(
    live: Path, new: dict[float, Path]
) -> None:
    for value in (1.0, 2.0):
        versions.promote(new[value], live)
    for value in (1.0, 0.0):
        versions.rollback(live)
        assert answer(live) == value
    with pytest.raises(NotPromoted, match="no version before line@"):
        versions.rollback(live)
    versions.promote(new[3.0], live)
    versions.rollback(live)
    assert answer(live) == 0.0, "2 was rolled back, so it is not the one before 3"
    versions.rollback(live, cards.read(new[2.0]).id)
    assert answer(live) == 2.0
    assert sorted(kept(live)) == [(0.0, False), (1.0, False), (2.0, True), (3.0, False)]


def test_a_promotion_of_an_older_version_can_be_rolled_back(
    live: Path, new: dict[float, Path]
) -> None:
    for value in (1.0, 2.0, 1.0):
        versions.promote(new[value], live)
    assert kept(live)[0] == (1.0, True)
    versions.rollback(live)
    assert answer(live) == 2.0


def test_a_model_that_was_replaced_by_hand_is_kept_too(live: Path, new: dict[float, Path]) -> None:
    versions.promote(new[1.0], live)
    save_constant(live, "line", 7.5)
    assert versions.promote(live, live).card == cards.read(live), "what is in place is promoted"
    versions.promote(new[2.0], live)
    versions.rollback(live)
    assert answer(live) == 7.5
    versions.rollback(live)
    assert answer(live) == 1.0


def test_a_rollback_replaces_files_that_are_broken(live: Path, new: dict[float, Path]) -> None:
    versions.promote(new[1.0], live)
    versions.promote(new[2.0], live)
    live.write_bytes(b"cut off")
    assert answer(live) == 2.0, "the card's version is kept"
    cards.card_path(live).write_bytes(b"{")
    with pytest.raises(ArtifactError, match="move both files away"):
        versions.promote(new[3.0], live)
    versions.rollback(live, cards.read(new[1.0]).sha256[:12])
    assert answer(live) == 1.0


def test_old_versions_are_removed(live: Path, new: dict[float, Path]) -> None:
    for value in (1.0, 2.0, 3.0, 4.0):
        versions.promote(new[value], live, keep=2)
    assert kept(live) == [(4.0, True), (3.0, False), (2.0, False)]


def test_the_history_is_not_needed_to_serve_or_to_list(live: Path, new: dict[float, Path]) -> None:
    versions.promote(new[1.0], live)
    (cards.versions_folder(live) / versions.HISTORY).write_bytes(b"[{")
    assert sorted(kept(live)) == [(0.0, False), (1.0, True)]
    versions.rollback(live, cards.read(new[1.0]).id)
    assert answer(live) == 1.0


def test_what_cannot_be_served_is_not_promoted(live: Path, new: dict[float, Path]) -> None:
    with pytest.raises(SourceNotFound):
        versions.promote(live.with_name("none.joblib"), live)
    new[1.0].write_bytes(new[2.0].read_bytes())
    with pytest.raises(ArtifactError, match="not the file that its card describes"):
        versions.promote(new[1.0], live)
    old = msgspec.structs.replace(cards.read(new[2.0]), libraries={"scikit-learn": "0.1"})
    cards.card_path(new[2.0]).write_bytes(cards.encode(old))
    with pytest.raises(ArtifactError, match=r"was saved with scikit-learn 0\.1"):
        versions.promote(new[2.0], live)
    cards.card_path(new[3.0]).unlink()
    with pytest.raises(ArtifactError, match="petal import"):
        versions.promote(new[3.0], live)
    assert sorted(p.name for p in live.parent.iterdir()) == ["line.joblib", "line.json"]


def test_a_model_of_other_tasks_needs_force(live: Path, tmp_path: Path) -> None:
    rent = tmp_path / "rent.joblib"
    save_rent(rent)
    with pytest.raises(NotPromoted, match="it lacks the feature x; it needs the features size, ki"):
        versions.promote(rent, live)
    promoted = versions.promote(rent, live, force=True)
    assert cards.read(live).name == "rent"
    assert promoted.differences[0] == "its name is rent and not line"
    assert versions.rollback(live).card.name == "line"


def test_a_symbolic_link_is_replaced_and_its_target_stays(
    live: Path, new: dict[float, Path], tmp_path: Path
) -> None:
    link = tmp_path / "current.joblib"
    link.symlink_to(live)
    cards.card_path(link).symlink_to(cards.card_path(live))
    versions.promote(new[1.0], link)
    assert (answer(link), answer(live), link.is_symlink()) == (1.0, 0.0, False)


def test_files_get_the_mode_of_those_that_they_replace(live: Path, new: dict[float, Path]) -> None:
    live.chmod(0o640)
    cards.card_path(live).chmod(0o644)
    versions.promote(new[1.0], live)
    modes = [path.stat().st_mode & 0o777 for path in (live, cards.card_path(live))]
    assert modes == [0o640, 0o644]
    assert cards.kept_path(live, cards.read(live).sha256).stat().st_mode & 0o777 == 0o640


def test_on_a_files_of_at_most_the_live_model_stays(live: Path, new: dict[float, Path]) -> None:
    with files_of_at_most(100), pytest.raises(NotWritten, match="cannot be written"):
        versions.promote(new[1.0], live)
    assert answer(live) == 0.0
    assert not [p for p in live.parent.rglob(".*") if p.is_file()], "no part is left"
    versions.promote(new[1.0], live)
    assert answer(live) == 1.0


def killed_at(step: int, change: Any) -> bool:
    """Whether a child process that makes the change was killed at its `step`-th rename."""
    pid = os.fork()
    if pid == 0:
        left, rename = [step], os.rename

        def replace(part: Path, target: Path) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(part, target)

        Path.replace = replace  # type: ignore[assignment, method-assign]
        change()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_a_kill_at_each_step_leaves_a_whole_model_and_a_repeat_completes_it(
    live: Path, new: dict[float, Path]
) -> None:
    found: list[float] = []
    while killed_at(len(found) + 1, lambda: versions.promote(new[1.0], live)):
        found.append(answer(live))
        versions.promote(new[1.0], live)
        assert answer(live) == 1.0
        versions.rollback(live)
        assert answer(live) == 0.0
        shutil.rmtree(cards.versions_folder(live))
    # Before the renames of both versions, of the history, the card, the artifact and the notice.
    assert found == [*6 * [0.0], 1.0, 1.0]
    assert answer(live) == 1.0, "without a kill"


def test_a_kill_at_each_step_of_a_rollback_leaves_a_whole_model(
    live: Path, new: dict[float, Path]
) -> None:
    found = []
    versions.promote(new[1.0], live)
    for step in range(1, 4):
        assert killed_at(step, lambda: versions.rollback(live))
        found.append(answer(live))
        versions.promote(new[1.0], live)
    assert found == [1.0, 0.0, 0.0]


def test_a_reader_beside_promotions_always_loads_a_whole_model(
    live: Path, new: dict[float, Path]
) -> None:
    done = threading.Event()
    seen: set[float] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(answer(live))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for n in range(40):
            versions.promote(new[1.0 + n % 2], live)
    finally:
        done.set()
        reader.join()
    assert seen <= {0.0, 1.0, 2.0}
    assert len(seen) > 1


def test_promotions_are_noticed_and_nothing_else_is(live: Path, new: dict[float, Path]) -> None:
    noticed = versions.Promotions(live)
    assert not noticed.is_new()
    versions.promote(new[1.0], live)
    assert [noticed.is_new(), noticed.is_new()] == [True, False]
    save_constant(live, "line", 7.5)
    assert not noticed.is_new()
    versions.rollback(live)
    assert noticed.is_new()
    assert not versions.Promotions(live).is_new()


def card(**changes: Any) -> Card:
    given: dict[str, Any] = {
        "name": "m", "kind": "classifier", "classes": ("a", "b"), "proba": True, "libraries": {},
        "sha256": "0" * 64,
        "features": (Feature(name="x", type="integer"), Feature(name="k", categories=("p", "q"),
                     type="text", nullable=True)),
    }  # fmt: skip
    return Card(**{**given, **changes})


X, K = card().features


@pytest.mark.parametrize(
    ("changes", "phrases"),
    [
        ({"sha256": "1" * 64, "metrics": {"score": 2.0}}, []),
        ({"features": (msgspec.structs.replace(X, type="number", minimum=2.0), K)}, []),
        ({"features": (X, msgspec.structs.replace(K, categories=("p", "q", "r")))}, []),
        ({"features": (X, msgspec.structs.replace(K, categories=()))}, []),
        ({"name": "n"}, ["its name is n and not m"]),
        ({"features": (X,)}, ["it lacks the feature k"]),
        ({"features": (X, K, Feature(name="z"))}, ["it needs the feature z"]),
        ({"features": (K, X)}, ["its features have another order"]),
        (
            {"features": (msgspec.structs.replace(X, type="boolean"), K)},
            ["its feature x has the type boolean and not integer"],
        ),
        (
            {"features": (msgspec.structs.replace(X, dtype="int8"), K)},
            ["its feature x takes fewer numbers (int8)"],
        ),
        (
            {"features": (X, msgspec.structs.replace(K, categories=("p",), nullable=False))},
            ["its feature k lacks the category q", "its feature k may not be missing"],
        ),
        ({"kind": "regressor", "classes": ()}, ["it is a regressor and not a classifier"]),
        ({"classes": ("a", "c")}, ["it lacks the class b", "it adds the class c"]),
        ({"classes": ("b", "a")}, ["its classes have another order"]),
        ({"proba": False}, ["it has no probabilities"]),
    ],
)
def test_what_tasks_or_clients_would_notice_is_a_difference(
    changes: dict[str, Any], phrases: list[str]
) -> None:
    assert differences(card(), card(**changes)) == phrases


def test_models_of_tables_differ_by_their_columns(tmp_path: Path) -> None:
    rent, loan = save_rent(tmp_path / "rent.joblib"), save_loan(tmp_path / "loan.joblib")
    assert differences(rent, rent) == []
    assert differences(rent, loan) == [
        "its name is loan and not rent", "it lacks the features size, kind",
        "it needs the features years, own", "it is a classifier and not a regressor",
    ]  # fmt: skip
    assert np.isfinite(artifact.load(tmp_path / "rent.joblib").model.predict([[30.0, "flat"]])[0])
