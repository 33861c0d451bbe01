"""The files of a repository, PETAL_MODEL and those of the folder PETAL_MODELS, and their models."""

from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

from model import card, folder
from model.artifact import Loaded
from model.errors import ArtifactError, CardError
from model.folder import ModelFile, Stamp


class Source(NamedTuple):
    """The file that a version was loaded from, as it was then."""

    path: Path
    stamp: Stamp


class Outcome(NamedTuple):
    """A file as it was before it was read, and the model in it, or why it cannot be loaded.

    `found` None: it has not changed since it was loaded.
    """

    file: ModelFile
    stamp: Stamp
    found: Loaded | ArtifactError | None


class Fault(NamedTuple):
    """Why a file could not be loaded, as it was then."""

    file: ModelFile
    stamp: Stamp
    reason: str


class Files:
    """Lists and loads files. `own_name` is the last known name of PETAL_MODEL, if there is one."""

    def __init__(self, model: Path, models: Path | None) -> None:
        self._model = model
        self._folder = models
        self.own_name: str | None = None

    def all(self) -> list[ModelFile]:
        """Every version of every model, the highest of each first; PETAL_MODEL comes first.

        Raises FolderMissing, and ArtifactError if PETAL_MODEL never had a card.
        """
        return folder.all_files(self._model, self._folder, self._name_of_model())

    def load(self, name: str | None = None, known: Set[Source] = frozenset()) -> list[Outcome]:
        """The outcome of each file, or of each of one model. Those that are `known` are not read.

        Raises as `all` does.
        """
        return [self._load(file, known) for file in self.all() if name in (None, file.name)]

    def without_folders(self, message: str) -> str:
        """A message for clients, who need not know the folders of this machine."""
        for place in filter(None, (self._folder, self._model.parent)):
            message = message.replace(f"{place}/", "")
        return message

    def _load(self, file: ModelFile, known: Set[Source]) -> Outcome:
        stamp = file.stamp
        if stamp is not None and Source(file.path, stamp) in known:
            return Outcome(file, stamp, None)
        return Outcome(file, stamp, folder.load(file, file.path == self._model))

    def _name_of_model(self) -> str:
        try:
            return card.read(self._model).name
        except CardError as e:
            if self.own_name is None:
                raise ArtifactError(str(e)) from e
            return self.own_name
