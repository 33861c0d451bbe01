"""The files of models in the folder PETAL_MODELS.

`NAME.joblib` is a model of one version, and `NAME/3.joblib` or `NAME/3/model.joblib`, the layout of
Triton and MLServer, is version 3 of a model. The card of each lies beside it. Hidden files and
folders, whose names begin with a dot, belong to other programs and are passed over.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from model import card as cards
from model.errors import ArtifactError

ENDING = ".joblib"
IN_VERSION_FOLDER = f"model{ENDING}"
LAYOUT = "passed over: a version of a model is NAME.joblib, NAME/3.joblib or NAME/3/model.joblib"

Stamp = tuple[int, ...] | None


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
