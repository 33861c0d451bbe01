"""The versions of a model: promoted to the place of an artifact, and kept for a rollback.

Those of `model/iris.joblib` are in the folder `model/.iris.joblib.versions`, each an artifact with
its card, named by the first 12 digits of its digest. The card beside the artifact says which one
is live. A promotion keeps both versions, then replaces the card, and then the artifact. `load`
finds the card's version among the kept ones while the artifact is still another, so at each step,
and after a kill at any, there is one whole model. The last step is the file PROMOTED, by which
processes notice a promotion.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from model import artifact, trial
from model import card as cards
from model.artifact import Loaded
from model.card import Card
from model.compatibility import differences
from model.errors import ArtifactError, CardError, NotPromoted, NotWritten, SourceNotFound

HISTORY, PROMOTED, LOCK = "history.json", "promoted", "lock"
AWAY = "move both files away, then promote"


class Entry(msgspec.Struct, frozen=True):
    """A promotion: of the version with this digest, in seconds since the epoch."""

    sha256: str
    at: float


class Version(NamedTuple):
    """A version that is live or kept; `at`: when it was promoted, seconds since the epoch."""

    card: Card
    at: float
    live: bool


class Promotion(NamedTuple):
    """What became live in place of `before`, if there was a model.

    `differences`: why tasks and clients of the former may not do with it, a phrase each.
    """

    card: Card
    before: Card | None
    differences: list[str]


def promote(
    source: Path, path: Path, force: bool = False, keep: int = cards.KEPT_VERSIONS
) -> Promotion:
    """Put the artifact `source` and its card into the place of `path`.

    It is loaded first, and must answer. Raises SourceNotFound, ArtifactError if it cannot be
    served or the former model cannot be kept, NotPromoted if that has another kind of tasks or
    answers, unless `force`, and NotWritten.
    """
    if not os.path.lexists(source):
        raise SourceNotFound(f"there is no file {source}")
    if source.is_dir():
        raise ArtifactError(
            f"{source} is a folder, and an artifact is a file; for a model of another program: "
            "petal import"
        )
    new = _checked(source)
    with _changing(path):
        before = _live(path)
        found = [] if before is None else differences(before, new.card)
        if found and not force:
            raise NotPromoted(_refusal(new.card, found))
        _keep(path, source, new.card)
        if before is not None:
            _keep(path, path, before)
        _record(path, new.card, before)
        _switch(path, new.card)
        _prune(path, new.card, keep)
    return Promotion(new.card, before, found)


def rollback(path: Path, version: str | None = None) -> Promotion:
    """Put the version that was live before into the place of `path`, or the one with this id.

    `version` is `NAME@DIGEST` or the beginning of a digest. Raises NotPromoted if there is none,
    ArtifactError if it cannot be served, and NotWritten.
    """
    with _changing(path):
        before = _live_if_whole(path)
        target = _before(path, before) if version is None else _named(path, version)
        _checked(cards.kept_path(path, target.sha256))
        if _place(_history(path), target) is None:
            _record(path, target, before)
        _switch(path, target)
    return Promotion(target, before, [] if before is None else differences(before, target))


def listed(path: Path) -> list[Version]:
    """The live version and the kept ones, the newest first; raises ArtifactError."""
    live = _live(path)
    times = {entry.sha256: entry.at for entry in _history(path)}
    found = {}
    for card, at in _kept(path):
        found[card.sha256] = Version(card, times.get(card.sha256, at), False)
    if live is not None:
        at = found[live.sha256].at if live.sha256 in found else _time_of(cards.card_path(path))
        found[live.sha256] = Version(live, at, True)
    return sorted(found.values(), key=lambda version: version.at, reverse=True)


class Promotions:
    """Notices promotions at a path, by any process that shares its folder."""

    def __init__(self, path: Path) -> None:
        self._file = cards.versions_folder(path) / PROMOTED
        self._seen = self._stamp()

    def is_new(self) -> bool:
        """Whether there was a promotion since the last call, or since the construction."""
        before, self._seen = self._seen, self._stamp()
        return self._seen not in (None, before)

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._file)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


def _checked(source: Path) -> Loaded:
    loaded = artifact.load(source)
    if fault := trial.answer_fault(*loaded):
        raise ArtifactError(f"{source} cannot be served: {fault}")
    return loaded


def _refusal(new: Card, found: Sequence[str]) -> str:
    return (
        f"{new.id} does not take the place of the live model: {'; '.join(found)}. Tasks that are "
        "already in the log and not valid for it get an error as their result, and clients need "
        "its new card. To promote it nevertheless: --force"
    )


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """One change at a time. An error of the system becomes NotWritten."""
    try:
        cards.versions_folder(path).mkdir(parents=True, exist_ok=True)
        with (cards.versions_folder(path) / LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as e:
        raise NotWritten(
            f"{path} and its versions in {cards.versions_folder(path)} cannot be written "
            f"({e.strerror}); the live model is the one that petal model list shows"
        ) from e


def _live(path: Path) -> Card | None:
    """The card of the live version, which is kept if it was not before; None: no model.

    Raises ArtifactError if there are files that are not a model, which could not be kept.
    """
    if not os.path.lexists(path) and not os.path.lexists(cards.card_path(path)):
        return None
    try:
        return cards.read(path)
    except CardError as e:
        raise ArtifactError(f"{e}. To replace what is there, {AWAY}") from e


def _live_if_whole(path: Path) -> Card | None:
    """The card of the live version, which is kept now; None if its files are broken."""
    try:
        before = _live(path)
        if before is not None:
            _keep(path, path, before)
    except ArtifactError:
        return None
    return before


def _keep(path: Path, source: Path, card: Card) -> None:
    """Keep the version of an artifact, if it is not kept yet."""
    kept = cards.kept_path(path, card.sha256)
    with suppress(ArtifactError):
        if artifact.read_pinned(kept)[0].sha256 == card.sha256:
            return
    _, data = artifact.read_pinned(source)
    artifact.replace_files({kept: data, cards.card_path(kept): cards.encode(card)}, like=path)


def _switch(path: Path, new: Card) -> None:
    """Make a kept version live, and let processes notice."""
    _, data = artifact.read_pinned(cards.kept_path(path, new.sha256))
    # In this order: from the card on, the new version is live.
    artifact.replace_files({cards.card_path(path): cards.encode(new), path: data})
    artifact.replace_files({cards.versions_folder(path) / PROMOTED: new.id.encode()}, like=path)


def _record(path: Path, new: Card, before: Card | None) -> None:
    """Add a promotion to the history, without those that were rolled back."""
    history = _history(path)
    live = _place(history, before)
    if live is not None:
        history = history[: live + 1]
    elif before is not None:  # somebody replaced the files by hand
        history.append(Entry(before.sha256, _time_of(cards.card_path(path))))
    if before is None or before.sha256 != new.sha256:
        history.append(Entry(new.sha256, time.time()))
    data = msgspec.json.encode(history)
    artifact.replace_files({cards.versions_folder(path) / HISTORY: data}, like=path)


def _before(path: Path, live: Card | None) -> Card:
    """The version that was live before; raises NotPromoted."""
    history = _history(path)
    former = history[: _place(history, live)]
    kept = {card.sha256: card for card, _ in _kept(path)}
    for entry in reversed(former):
        if entry.sha256 in kept and (live is None or entry.sha256 != live.sha256):
            return kept[entry.sha256]
    name = path if live is None else live.id
    raise NotPromoted(f"no version before {name} is kept; the kept ones: petal model list")


def _named(path: Path, version: str) -> Card:
    """The kept version of a reference; raises NotPromoted, which lists the kept ones."""
    name, _, start = version.rpartition("@")
    kept = [card for card, _ in _kept(path)]
    found = [c for c in kept if start and c.sha256.startswith(start) and name in ("", c.name)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(card.id for card in kept) or "none"
    many = "several versions begin with" if found else "no version is kept as"
    raise NotPromoted(f"{many} {version[:80]!r}; kept are: {known}")


def _history(path: Path) -> list[Entry]:
    """The promotions up to the live version and those that were rolled back, the oldest first."""
    try:
        data = (cards.versions_folder(path) / HISTORY).read_bytes()
        return msgspec.json.decode(data, type=list[Entry])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return []  # then versions have the times of their files


def _place(history: Sequence[Entry], card: Card | None) -> int | None:
    """Where in the history the version was promoted last."""
    places = [n for n, entry in enumerate(history) if card and entry.sha256 == card.sha256]
    return places[-1] if places else None


def _kept(path: Path) -> Iterator[tuple[Card, float]]:
    """The card of each version that is kept, and when it was kept."""
    for file in sorted(cards.versions_folder(path).glob("[!.]*.joblib")):
        with suppress(CardError, OSError):
            card = cards.read(file)
            if cards.kept_path(path, card.sha256) == file:
                yield card, _time_of(file)


def _time_of(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _prune(path: Path, live: Card, keep: int) -> None:
    """Remove all versions but the live one and `keep` former ones."""
    former = [version for version in listed(path) if version.card.sha256 != live.sha256]
    for version in former[keep:]:
        kept = cards.kept_path(path, version.card.sha256)
        for file in (cards.card_path(kept), kept):
            file.unlink(missing_ok=True)
