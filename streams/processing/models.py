"""The models of a worker: PETAL_MODEL, its default, and those of the folder PETAL_MODELS.

Each is loaded at the start. A reload loads those whose files have changed since. A file of the
folder that cannot be loaded does not stop the others: its tasks get MODEL_UNAVAILABLE, with the
reason, unless an earlier file in its place goes on.
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
from model.folder import ModelFile, Stamp

logger = logging.getLogger("petalstream")


class Fault(Struct, frozen=True):
    """Why a version of a model is not served; `version` is its number, if its file has one."""

    name: str
    version: str | None
    reason: str


class Served(NamedTuple):
    """A model that is loaded, its version in references, and its file as it was then."""

    loaded: Loaded
    version: str
    path: Path
    stamp: Stamp = None

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

    def is_same(self, other: "Models") -> bool:
        """Whether both have the same models, loaded once, and the same faults."""
        loaded, others = ([id(one.loaded) for one in models] for models in (self, other))
        return loaded == others and self.faults == other.faults

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

    def explain(self, reference: str) -> NotServed:
        """Why `find` raises."""
        try:
            self.find(reference)
        except NotServed as e:
            return e
        raise AssertionError(f"{reference} is served")


def load_models(model: Path, models: Path | None = None, before: Models | None = None) -> Models:
    """Load PETAL_MODEL, and all that can be loaded of PETAL_MODELS.

    Of those that were loaded `before`, a file that has not changed is not read again, and one that
    cannot be loaded any more goes on. Logs once why a file of the folder is not served. Raises
    ArtifactError for PETAL_MODEL, or if the folder cannot be read.
    """
    served: list[Served] = []
    faults: list[Fault] = []
    known = {one.path: one for one in before or ()}
    for file in folder.all_files(model, models, _name_of(model)):
        found = _load(file, known.get(file.path), is_own=file.path == model)
        if not isinstance(found, ArtifactError):
            served.append(found)
            continue
        if file.path == model:
            raise found
        fault = _fault(file, found, models)
        faults.append(fault)
        if before is None or fault not in before.faults:
            logger.warning("%s is not served: %s", file.path, found)
        served += filter(None, [known.get(file.path)])
    return Models(served, faults)


def _load(file: ModelFile, known: Served | None, is_own: bool) -> Served | ArtifactError:
    stamp = file.stamp
    if known is not None and stamp is not None and known.stamp == stamp:
        return known
    found = folder.load(file, is_own)
    if isinstance(found, ArtifactError):
        return found
    version = file.version or folder.digest_version(found.card)
    return Served(found, version, file.path, stamp)


def _name_of(model: Path) -> str:
    try:
        return cards.read(model).name
    except CardError as e:
        raise ArtifactError(str(e)) from e


def _fault(file: ModelFile, error: ArtifactError, models: Path | None) -> Fault:
    """The fault without the folder, which clients need not know."""
    return Fault(file.name, file.version, str(error).replace(f"{models}/", ""))
