"""The models that this process serves: PETAL_MODEL, and those of the folder PETAL_MODELS.

In the folder, `NAME.joblib` is a model of one version, the first 12 digits of its digest, and
`NAME/3.joblib` is version 3 of a model; the card of each lies beside it. If a request names no
version, the highest one answers, or PETAL_MODEL if it has that name. An artifact is opened only
if its card pins its SHA-256.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from msgspec import Struct

from api.errors import BadRequest, Unavailable, UnknownModel
from model import artifact, card
from model.artifact import Loaded
from model.card import Card
from model.errors import ArtifactError, CardError

ENDING = ".joblib"

logger = logging.getLogger(__name__)


class Versioned(Protocol):
    """What a repository holds: anything that serves one version of a model."""

    @property
    def card(self) -> Card:
        """The card of the model."""

    @property
    def version(self) -> str:
        """Its version."""


S = TypeVar("S", bound=Versioned)


class ModelFile(NamedTuple):
    """The artifact of one version of a model; `version` None: the version is its digest's."""

    name: str
    version: str | None
    path: Path


class IndexEntry(Struct, frozen=True):
    """One version in the index; `reason` says why it is not ready."""

    name: str
    version: str
    state: str
    reason: str


class FolderMissing(ArtifactError):
    """The folder of models does not exist."""


class Repository(Generic[S]):
    """Models by name and version. What `find` returned stays usable after an unload."""

    def __init__(self, model: Path, folder: Path | None, serve: Callable[[Loaded, str], S]) -> None:
        """`serve` makes of an artifact and its version the object that serves it."""
        self._model = model
        self._folder = folder
        self._serve = serve
        self._served: dict[str, dict[str, S]] = {}
        self._default: S | None = None
        self._changing = asyncio.Lock()

    @property
    def is_empty(self) -> bool:
        """Whether no model is loaded."""
        return not self._served

    @property
    def default(self) -> S:
        """PETAL_MODEL as it was at the start, even after a load or an unload. Only while open."""
        assert self._default is not None
        return self._default

    async def open(self) -> None:
        """Load every model. Raises ArtifactError."""
        files = await asyncio.to_thread(self._files)
        for name in dict.fromkeys(file.name for file in files):
            self._served[name] = await self._loaded([file for file in files if file.name == name])
        self._default = next(iter(self._served[files[0].name].values()))

    def close(self) -> None:
        """Release the models."""
        self._served.clear()
        self._default = None

    def find(self, name: str, version: str | None = None) -> S:
        """One version of a model, the first if `version` is None; raises UnknownModel."""
        versions = self._served.get(name)
        if versions is None:
            raise UnknownModel(name)
        if version is None:
            return next(iter(versions.values()))
        if version not in versions:
            raise UnknownModel(f"{name}@{version}")
        return versions[version]

    def versions(self, name: str) -> list[str]:
        """The loaded versions of a model; the first answers requests that name no version.

        Raises UnknownModel.
        """
        self.find(name)
        return list(self._served[name])

    async def load(self, name: str) -> None:
        """Load, or reload, all versions of a model.

        Requests in progress finish on the version they started with. If one version cannot be
        loaded, nothing changes. Raises UnknownModel or BadRequest.
        """
        async with self._changing:
            try:
                files = [f for f in await asyncio.to_thread(self._files) if f.name == name]
                if not files:
                    raise UnknownModel(name)
                self._served[name] = await self._loaded(files)
            except FolderMissing as e:
                raise _unreadable(e) from e
            except ArtifactError as e:
                logger.warning("cannot load %s: %s", name, e)
                raise BadRequest(self._without_folders(str(e))) from e

    async def unload(self, name: str) -> None:
        """Stop serving a model; raises UnknownModel."""
        async with self._changing:
            self.find(name)
            del self._served[name]

    async def index(self) -> list[IndexEntry]:
        """Every version that is loaded or lies in the folder."""
        try:
            unloaded = await asyncio.to_thread(lambda: list(map(_unloaded, self._files())))
        except FolderMissing as e:
            raise _unreadable(e) from e
        except ArtifactError as e:
            logger.warning("cannot list the models: %s", e)
            raise BadRequest(self._without_folders(str(e))) from e
        ready = [
            IndexEntry(name, version, "READY", "")
            for name, versions in self._served.items()
            for version in versions
        ]
        known = {(entry.name, entry.version) for entry in ready}
        return ready + [entry for entry in unloaded if (entry.name, entry.version) not in known]

    async def _loaded(self, files: list[ModelFile]) -> dict[str, S]:
        loaded = await asyncio.to_thread(lambda: list(map(_load, files)))
        served = [
            self._serve(each, file.version or _digest_version(each.card))
            for each, file in zip(loaded, files, strict=True)
        ]
        return {one.version: one for one in served}

    def _files(self) -> list[ModelFile]:
        """Every version of every model, the highest of each first; PETAL_MODEL comes first."""
        files = [ModelFile(_name(self._model), None, self._model)]
        if self._folder is not None:
            files += sorted(_files_in(self._folder), key=_order, reverse=True)
        return files

    def _without_folders(self, message: str) -> str:
        """A message for clients, who need not know the folders of this machine."""
        for folder in filter(None, (self._folder, self._model.parent)):
            message = message.replace(f"{folder}/", "")
        return message


def _unreadable(error: FolderMissing) -> Unavailable:
    logger.warning("cannot list the models: %s", error)
    return Unavailable("the folder of models cannot be read at the moment")


def _digest_version(model_card: Card) -> str:
    """The version of a model that has no other: the first 12 hex digits of its SHA-256."""
    return model_card.sha256[:12]


def _name(path: Path) -> str:
    try:
        return card.read(path).name
    except CardError as e:
        raise ArtifactError(str(e)) from e


def _files_in(folder: Path) -> Iterator[ModelFile]:
    if not folder.is_dir():
        raise FolderMissing(f"no folder of models at {folder}")
    for path in folder.glob(f"*{ENDING}"):
        yield ModelFile(path.stem, None, path)
    for path in folder.glob(f"*/*{ENDING}"):
        if path.stem.isdecimal():
            yield ModelFile(path.parent.name, path.stem, path)


def _order(file: ModelFile) -> tuple[str, int]:
    return file.name, int(file.version or 0)


def _load(file: ModelFile) -> Loaded:
    loaded = artifact.load(file.path)
    if loaded.card.name != file.name:
        raise ArtifactError(
            f"{file.path} holds the model {loaded.card.name} but is named {file.name}"
        )
    return loaded


def _unloaded(file: ModelFile) -> IndexEntry:
    """The entry of a version that is not loaded, by its card alone."""
    try:
        version, reason = file.version or _digest_version(card.read(file.path)), "not loaded"
    except CardError:
        version, reason = file.version or "", "it has no card that can be read"
    return IndexEntry(file.name, version, "UNAVAILABLE", reason)
