"""The files of models: PETAL_MODEL, and those in the folder PETAL_MODELS.

In the folder `NAME.joblib` is a model of one version, and `NAME/3.joblib` or `NAME/3/model.joblib`,
the layout of Triton and MLServer, is version 3 of a model. The card of each lies beside it. Hidden
files and folders, whose names begin with a dot, belong to other programs and are passed over.

A model is chosen by a reference: `NAME` is the first of its versions, which is PETAL_MODEL if it
has that name, and else the highest. `NAME@VERSION` is one of them, by its number, or by the first
12 digits of its artifact's SHA-256. The latter is the only version of `NAME.joblib`.
"""

import os
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from model import card as cards
from model.card import Card
from model.errors import ArtifactError

if TYPE_CHECKING:
    from model.artifact import Loaded

ENDING = ".joblib"
IN_VERSION_FOLDER = f"model{ENDING}"
LAYOUT = "passed over: a version of a model is NAME.joblib, NAME/3.joblib or NAME/3/model.joblib"

MAX_LISTED = 40  # models in a sentence

Stamp = tuple[int, ...] | None


class HasCard(Protocol):
    """Anything that stands for one version of a model."""

    @property
    def card(self) -> Card:
        """The card of the model."""


M = TypeVar("M", bound=HasCard)


class FolderMissing(ArtifactError):
    """The folder of models does not exist, or cannot be read."""


class ModelFile(NamedTuple):
    """The artifact of one version of a model; `version` None: the version is its digest's.

    `fault` says why it cannot be loaded, if its place shows that.
    """

    name: str
    version: str | None
    path: Path
    fault: str = ""

    @property
    def stamp(self) -> Stamp:
        """Changes when the artifact or its card is replaced or written; None without a file."""
        try:
            found = [os.stat(path) for path in (self.path, cards.card_path(self.path))]
        except OSError:
            return None
        return tuple(part for s in found for part in (s.st_ino, s.st_mtime_ns, s.st_size))


def files_in(folder: Path) -> list[ModelFile]:
    """Every version of every model, the highest of each first; raises FolderMissing."""
    try:
        entries = _visible(folder)
    except OSError as e:
        raise FolderMissing(f"no folder of models at {folder} ({e.strerror})") from e
    files = [file for entry in entries for file in _of_entry(entry)]
    return sorted(_without_repeats(files), key=_order, reverse=True)


def all_files(model: Path, folder: Path | None, own_name: str) -> list[ModelFile]:
    """The file PETAL_MODEL, under its own name, and those of the folder without that file.

    PETAL_MODEL has a number if it is a numbered file of the folder. Raises FolderMissing.
    """
    if folder is None:
        return [ModelFile(own_name, None, model)]
    files = [(file, _is_same(file.path, model)) for file in files_in(folder)]
    version = next((f.version for f, is_own in files if is_own and f.name == own_name), None)
    others = [file for file, is_own in files if not is_own]
    return [ModelFile(own_name, version or None, model), *others]


def load(file: ModelFile, is_own: bool = False) -> "Loaded | ArtifactError":
    """The model in a file, or why it cannot be loaded. PETAL_MODEL may have any file name."""
    from model import artifact  # only here: to choose a file needs no scikit-learn

    try:
        if file.fault:
            raise ArtifactError(file.fault)
        loaded = artifact.load(file.path)
        if not is_own:
            check_name(file, loaded.card)
    except ArtifactError as e:
        return e
    except Exception as e:  # an artifact may run any code; the other models are served
        return ArtifactError(f"{file.path} cannot be loaded ({type(e).__name__}: {e})")
    return loaded


def check_name(file: ModelFile, card: Card) -> None:
    """Raise ArtifactError if a file of the folder is named otherwise than its model."""
    if card.name != file.name:
        raise ArtifactError(f"{file.path} holds the model {card.name} but is named {file.name}")


def digest_version(card: Card) -> str:
    """The version of a model that has no number: the first 12 hex digits of its SHA-256."""
    return card.sha256[:12]


def split(reference: str, names: Container[str]) -> tuple[str, str | None]:
    """The name and the version in a reference. A name may contain an @ itself."""
    if reference in names:
        return reference, None
    name, at, version = reference.rpartition("@")
    return (name, version) if at else (reference, None)


def choose(versions: Mapping[str, M], version: str | None) -> M | None:
    """The version with this number or digest, or the first if None; None: there is none."""
    if version is None:
        return next(iter(versions.values()), None)
    if version in versions:
        return versions[version]
    return next((one for one in versions.values() if digest_version(one.card) == version), None)


def listed(served: Mapping[str, Mapping[str, HasCard]]) -> str:
    """`NAME@VERSION` of each version of each model, the default first, for a sentence."""
    names = [*served]
    ordered = [*names[:1], *sorted(names[1:])]
    known = [f"{name}@{version}" for name in ordered for version in served[name]]
    return ", ".join(known[:MAX_LISTED]) + (", …" if len(known) > MAX_LISTED else "")


def _of_entry(entry: Path) -> Iterator[ModelFile]:
    if entry.suffix == ENDING:
        yield ModelFile(entry.stem, None, entry)
    elif entry.is_dir():
        yield from _of_folder(entry, entry.name)


def _of_folder(folder: Path, name: str) -> Iterator[ModelFile]:
    for entry in _readable(folder):
        if isinstance(entry, str):
            yield ModelFile(name, "", folder, entry)
        elif entry.suffix == ENDING:
            is_version = entry.stem.isdecimal()
            yield ModelFile(name, entry.stem, entry) if is_version else _passed_over(name, entry)
        elif entry.is_dir():
            yield from _of_version_folder(entry, name)


def _of_version_folder(folder: Path, name: str) -> Iterator[ModelFile]:
    for entry in _readable(folder):
        if isinstance(entry, str):
            yield ModelFile(name, folder.name, folder, entry)
        elif entry.name == IN_VERSION_FOLDER and folder.name.isdecimal():
            yield ModelFile(name, folder.name, entry)
        elif entry.suffix == ENDING:
            yield _passed_over(name, entry)


def _readable(folder: Path) -> list[Path] | list[str]:
    """What is in a folder, or why it cannot be read."""
    try:
        return _visible(folder)
    except OSError as e:
        return [f"the folder {folder.name} cannot be read ({e.strerror})"]


def _visible(folder: Path) -> list[Path]:
    return sorted(folder / name for name in os.listdir(folder) if not name.startswith("."))


def _passed_over(name: str, path: Path) -> ModelFile:
    return ModelFile(name, "", path, f"{path.name} is {LAYOUT}")


def _without_repeats(files: list[ModelFile]) -> Iterator[ModelFile]:
    first: dict[tuple[str, str], Path] = {}
    for file in files:
        if file.version and not file.fault:
            other = first.setdefault((file.name, file.version), file.path)
            if other != file.path:
                file = file._replace(fault=f"version {file.version} is already {other.name}")
        yield file


def _order(file: ModelFile) -> tuple[str, int]:
    return file.name, int(file.version or 0)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
