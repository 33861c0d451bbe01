"""The models of a worker: PETAL_MODEL, its default, and those of the folder PETAL_MODELS.

Each is loaded once, at the start. A file of the folder that cannot be loaded does not stop the
others: its tasks get MODEL_UNAVAILABLE, with the reason.
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from model import card as cards
from model import folder
from model.artifact import Loaded
from model.errors import MODEL_UNAVAILABLE, UNKNOWN_MODEL, ArtifactError, CardError, NotServed
from model.folder import ModelFile

logger = logging.getLogger("petalstream")


class Fault(Struct, frozen=True):
    """Why a version of a model is not served; `version` is its number, if its file has one."""

    name: str
    version: str | None
    reason: str


class Served(NamedTuple):
    """A model that is loaded, its version in references, and its file."""

    loaded: Loaded
    version: str
    path: Path

    @property
    def card(self) -> cards.Card:
        return self.loaded.card

    @property
    def reference(self) -> str:
        """`NAME@VERSION`"""
        return f"{self.card.name}@{self.version}"


class Models:
    """Models by name and version. The first one is the default, the first of a name its highest."""

    def __init__(self, served: Iterable[Served], faults: Iterable[Fault] = ()) -> None:
        self.faults = list(faults)
        self._versions: dict[str, dict[str, Served]] = {}
        for one in served:
            self._versions.setdefault(one.card.name, {}).setdefault(one.version, one)

    def __iter__(self) -> Iterator[Served]:
        for versions in self._versions.values():
            yield from versions.values()

    @property
    def default(self) -> Served:
        """The model of a task that names none."""
        return next(iter(self))

    @property
    def ids(self) -> list[str]:
        """`name@digest` of each, as results name them."""
        return sorted({one.card.id for one in self})

    def find(self, reference: str) -> Served:
        """The model that a task's `model` names; raises NotServed."""
        names = {*self._versions, *(fault.name for fault in self.faults)}
        name, version = folder.split(reference, names)
        found = folder.choose(self._versions.get(name, {}), version)
        if found is not None:
            return found
        for fault in self.faults:
            if fault.name == name and version in (None, fault.version):
                raise NotServed(MODEL_UNAVAILABLE, f"{name} cannot be served: {fault.reason}")
        raise NotServed(UNKNOWN_MODEL, f"this pipeline serves {folder.listed(self._versions)}")


def load_models(model: Path, models: Path | None = None) -> Models:
    """Load PETAL_MODEL, and all that can be loaded of PETAL_MODELS.

    Logs once why a file of the folder is not served. Raises ArtifactError for PETAL_MODEL, or if
    the folder cannot be read.
    """
    served: list[Served] = []
    faults: list[Fault] = []
    for file in folder.all_files(model, models, _name_of(model)):
        is_own = file.path == model
        found = folder.load(file, is_own)
        if not isinstance(found, ArtifactError):
            served.append(
                Served(found, file.version or folder.digest_version(found.card), file.path)
            )
        elif is_own:
            raise found
        else:
            logger.warning("%s is not served: %s", file.path, found)
            faults.append(_fault(file, found, models))
    return Models(served, faults)


def _name_of(model: Path) -> str:
    try:
        return cards.read(model).name
    except CardError as e:
        raise ArtifactError(str(e)) from e


def _fault(file: ModelFile, error: ArtifactError, models: Path | None) -> Fault:
    """The fault without the folder, which clients need not know."""
    return Fault(file.name, file.version, str(error).replace(f"{models}/", ""))
