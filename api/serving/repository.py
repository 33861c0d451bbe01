"""The models that this process serves: PETAL_MODEL, and those of the folder PETAL_MODELS.

In the folder, `NAME.joblib` is a model of one version, its digest's first 12 digits, and
`NAME/3.joblib` is version 3 of a model; beside each lies its card. A request that names no
version is answered by the highest, or by PETAL_MODEL if that has the name. Every artifact is
opened only if its card pins its SHA-256.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from api.errors import BadRequest, Unavailable, UnknownModel
from api.inference.servable import Served, digest_version
from model import artifact, card
from model.artifact import Loaded
from model.errors import ArtifactError, CardError

ENDING = ".joblib"

logger = logging.getLogger(__name__)

Serve = Callable[[Loaded, str], Served]


class Place(NamedTuple):
    """Where one version of a model lies; `version` None: it has its digest's."""

    name: str
    version: str | None
    path: Path


class Entry(Struct, frozen=True):
    """One version in the index; `reason` says why it is not ready."""

    name: str
    version: str
    state: str
    reason: str


class NoFolder(ArtifactError):
    """The folder of models is not there."""


class Repository:
    """Models by name and version. A Served that was found stays usable after its unload."""

    def __init__(self, model: Path, folder: Path | None) -> None:
        self._model = model
        self._folder = folder
        self._served: dict[str, dict[str, Served]] = {}
        self._changing = asyncio.Lock()
        self.pipeline: dict[str, Served] = {}  # the model of PETAL_MODEL, as it was at the start

    @property
    def is_empty(self) -> bool:
        """Whether no model can be asked."""
        return not self._served

    async def open(self, serve: Serve) -> None:
        """Load every model; `serve` puts a queue before each version. Raises ArtifactError."""
        self._serve = serve
        places = await asyncio.to_thread(self._places)
        for name in dict.fromkeys(place.name for place in places):
            self._served[name] = await self._loaded([p for p in places if p.name == name])
        main = card.read(self._model).name
        self.pipeline[main] = next(iter(self._served[main].values()))

    def close(self) -> None:
        """Let go of the models."""
        self._served.clear()
        self.pipeline.clear()

    def find(self, name: str, version: str | None = None) -> Served:
        """One version of a model, the first if none is named; raises UnknownModel."""
        versions = self._served.get(name)
        if versions is None:
            raise UnknownModel(name)
        if version is None:
            return next(iter(versions.values()))
        if version not in versions:
            raise UnknownModel(f"{name}@{version}")
        return versions[version]

    def versions(self, name: str) -> list[str]:
        """The versions of a model that can be asked, first the one that answers who names none.

        Raises UnknownModel.
        """
        self.find(name)
        return list(self._served[name])

    async def load(self, name: str) -> None:
        """Load all versions of a model, again if it is served already.

        Requests that were begun are answered by the version they were begun with. If a version
        cannot be loaded nothing changes. Raises UnknownModel or BadRequest.
        """
        async with self._changing:
            try:
                places = [p for p in await asyncio.to_thread(self._places) if p.name == name]
                if not places:
                    raise UnknownModel(name)
                self._served[name] = await self._loaded(places)
            except NoFolder as e:
                raise _away(e) from e
            except ArtifactError as e:
                logger.warning("cannot load %s: %s", name, e)
                raise BadRequest(self._for_clients(str(e))) from e

    async def unload(self, name: str) -> None:
        """Serve a model no longer; raises UnknownModel."""
        async with self._changing:
            self.find(name)
            del self._served[name]

    async def index(self) -> list[Entry]:
        """Every version that is served or lies in the folder."""
        try:
            places = await asyncio.to_thread(
                lambda: [(place, *_card_version(place)) for place in self._places()]
            )
        except NoFolder as e:
            raise _away(e) from e
        except ArtifactError as e:
            logger.warning("cannot look for models: %s", e)
            raise BadRequest(self._for_clients(str(e))) from e
        ready = [Entry(n, v, "READY", "") for n, versions in self._served.items() for v in versions]
        known = {(entry.name, entry.version) for entry in ready}
        return ready + [
            Entry(place.name, version, "UNAVAILABLE", reason)
            for place, version, reason in places
            if (place.name, version) not in known
        ]

    async def _loaded(self, places: list[Place]) -> dict[str, Served]:
        loaded = await asyncio.to_thread(lambda: [_load(place) for place in places])
        served = [
            self._serve(each, place.version or digest_version(each.card.sha256))
            for each, place in zip(loaded, places, strict=True)
        ]
        return {one.version: one for one in served}

    def _places(self) -> list[Place]:
        """Every version of every model, of each the highest first; PETAL_MODEL is the first."""
        places = [Place(_name(self._model), None, self._model)]
        if self._folder is not None:
            places += sorted(_places_in(self._folder), key=_order, reverse=True)
        return places

    def _for_clients(self, message: str) -> str:
        """A message without this machine's folders, which are none of a client's business."""
        for folder in filter(None, (self._folder, self._model.parent)):
            message = message.replace(f"{folder}/", "")
        return message


def _away(error: NoFolder) -> Unavailable:
    logger.warning("cannot look for models: %s", error)
    return Unavailable("the folder of models cannot be read at this moment")


def _name(path: Path) -> str:
    try:
        return card.read(path).name
    except CardError as e:
        raise ArtifactError(str(e)) from e


def _places_in(folder: Path) -> Iterator[Place]:
    if not folder.is_dir():
        raise NoFolder(f"no folder of models at {folder}")
    for path in folder.glob(f"*{ENDING}"):
        yield Place(path.stem, None, path)
    for path in folder.glob(f"*/*{ENDING}"):
        if path.stem.isdecimal():
            yield Place(path.parent.name, path.stem, path)


def _order(place: Place) -> tuple[str, int]:
    return place.name, int(place.version or 0)


def _load(place: Place) -> Loaded:
    loaded = artifact.load(place.path)
    if loaded.card.name != place.name:
        raise ArtifactError(
            f"{place.path} is the model {loaded.card.name} by its card; the file's name must say so"
        )
    return loaded


def _card_version(place: Place) -> tuple[str, str]:
    """The version of a place and why it is not served, by its card alone."""
    try:
        return place.version or digest_version(card.read(place.path).sha256), "not loaded"
    except CardError:
        return place.version or "", "it has no card that can be read"
