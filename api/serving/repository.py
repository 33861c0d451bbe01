"""The models that this process serves: PETAL_MODEL, and those of the folder PETAL_MODELS.

`model/folder.py` has the layout of the folder. The version of `NAME.joblib` is the first 12
digits of its digest. If a request names no version, the highest one answers, or PETAL_MODEL if it
has that name. An artifact is opened only if its card pins its SHA-256. A file of the folder that
cannot be loaded is UNAVAILABLE, with its reason, and the others are served.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from api.errors import BadRequest, NotLoaded, RequestError, Unavailable, UnknownModel
from api.serving.files import Fault, Files, Outcome, Source
from infra.log import report
from model import card, folder
from model.artifact import Loaded
from model.card import Card
from model.errors import ArtifactError, CardError
from model.folder import FolderMissing, ModelFile, Stamp, digest_version

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


class IndexEntry(Struct, frozen=True):
    """One version in the index; `reason` says why it is not ready, or that its file changed."""

    name: str
    version: str
    state: str
    reason: str


class Repository(Generic[S]):
    """Models by name and version. What `find` returned stays usable after an unload."""

    def __init__(self, model: Path, models: Path | None, serve: Callable[[Loaded, str], S]) -> None:
        """`serve` makes of an artifact and its version the object that serves it."""
        self._files = Files(model, models)
        self._serve = serve
        self._served: dict[str, dict[str, S]] = {}
        self._sources: dict[tuple[str, str], Source] = {}  # by name and version
        self._faults: dict[Path, Fault] = {}
        self._default: S | None = None
        self._changing = asyncio.Lock()

    @property
    def is_empty(self) -> bool:
        """Whether no model is loaded."""
        return not self._served

    @property
    def default(self) -> S:
        """PETAL_MODEL as it was at the start or the last reload, even after a load or an unload.

        Only while open.
        """
        assert self._default is not None
        return self._default

    async def open(self) -> None:
        """Load every model of the folder that can be loaded, and PETAL_MODEL.

        Raises ArtifactError if PETAL_MODEL cannot be loaded, or if the folder is missing.
        """
        self._take_all(await asyncio.to_thread(self._files.load))

    async def reload(self) -> None:
        """Serve the files as they are now, as a restart would.

        Requests in progress finish on the version they started with. If PETAL_MODEL cannot be
        loaded, or the folder not be read, nothing changes, and the log has the reason.
        """
        async with self._changing:
            before = self.default.card.id
            try:
                self._take_all(
                    await asyncio.to_thread(self._files.load, known={*self._sources.values()})
                )
            except ArtifactError as e:
                logger.error("%s goes on: %s", before, e)
                return
            if (now := self.default.card.id) != before:
                report(
                    f"petal-api answers with {now}, before {before}", logging.INFO, sys.__stdout__
                )

    def _take_all(self, outcomes: list[Outcome]) -> None:
        """Serve what is in all files; raises ArtifactError, before it changes anything."""
        first, main = outcomes[0].file, outcomes[0].found
        if isinstance(main, ArtifactError):
            raise main
        names = dict.fromkeys(outcome.file.name for outcome in outcomes)
        for name in [name for name in self._served if name not in names]:
            del self._served[name]
            self._forget(name)
        for name in names:
            self._take(name, [outcome for outcome in outcomes if outcome.file.name == name])
        self._default = next(iter(self._served[first.name].values()))
        self._files.own_name = self._default.card.name

    def close(self) -> None:
        """Release the models."""
        self._served.clear()
        self._default = None

    def find(self, name: str, version: str | None = None) -> S:
        """One version of a model, by its number or digest; the first if `version` is None.

        Raises UnknownModel, or NotLoaded if there is a file that cannot be loaded.
        """
        versions = self._served.get(name)
        if versions is None:
            raise self._missing(name, version)
        found = folder.choose(versions, version)
        if found is None:
            raise self._missing(name, version)
        return found

    def _missing(self, name: str, version: str | None) -> RequestError:
        for file, _, reason in self._faults.values():
            if file.name == name and version in (None, file.version):
                return NotLoaded(name, reason)
        return UnknownModel(name if version is None else f"{name}@{version}")

    def named(self, reference: str | None) -> S:
        """The version that a task's `model` names; the default if None.

        Raises UnknownModel or NotLoaded. Workers may serve others: each process reads the folder
        when it starts.
        """
        if reference is None or reference in (self.default.card.name, self.default.card.id):
            return self.default
        names = {*self._served, *(fault.file.name for fault in self._faults.values())}
        return self.find(*folder.split(reference, names))

    def cards(self) -> list[Card]:
        """The card of the default, and of the first version of each other model."""
        firsts = [next(iter(versions.values())) for versions in self._served.values()]
        default = self.default.card
        return [default, *(one.card for one in firsts if one.card.name != default.name)]

    def listed(self) -> str:
        """`NAME@VERSION` of every loaded version, for a sentence."""
        return folder.listed(self._served)

    def versions(self, name: str) -> list[str]:
        """The loaded versions of a model; the first answers requests that name no version.

        Raises UnknownModel.
        """
        self.find(name)
        return list(self._served[name])

    def served(self) -> list[S]:
        """Every loaded version of every model."""
        return [one for versions in self._served.values() for one in versions.values()]

    async def load(self, name: str) -> None:
        """Load, or reload, all versions of a model that can be loaded.

        Requests in progress finish on the version they started with. A version whose file cannot
        be loaded any more goes on as it is. If no version can be loaded, nothing changes.
        Raises UnknownModel or BadRequest.
        """
        async with self._changing:
            try:
                outcomes = await asyncio.to_thread(self._files.load, name)
            except FolderMissing as e:
                raise _unreadable(e) from e
            if not outcomes:
                raise UnknownModel(name)
            found = [outcome.found for outcome in outcomes]
            reasons = [str(error) for error in found if isinstance(error, ArtifactError)]
            if len(reasons) < len(outcomes) or name not in self._served:
                self._take(name, outcomes)
            if len(reasons) == len(outcomes):
                logger.warning("cannot load %s: %s", name, reasons[0])
                raise BadRequest(self._files.without_folders(reasons[0]))

    async def unload(self, name: str) -> None:
        """Stop serving a model; raises UnknownModel."""
        async with self._changing:
            if name not in self._served:
                raise UnknownModel(name)
            del self._served[name]
            self._forget(name)

    async def index(self) -> list[IndexEntry]:
        """Every version that is loaded or lies in the folder."""
        faults = self._faults.copy()
        try:
            listed = await asyncio.to_thread(
                lambda: [
                    (file, file.stamp, self._unloaded(file, faults)) for file in self._files.all()
                ]
            )
        except FolderMissing as e:
            raise _unreadable(e) from e
        stamps = {file.path: stamp for file, stamp, _ in listed}
        ready = [
            IndexEntry(name, version, "READY", _change(self._sources[name, version], stamps))
            for name, versions in self._served.items()
            for version in versions
        ]
        known = {(entry.name, entry.version) for entry in ready}
        return ready + [
            entry
            for file, _, entry in listed
            if file.fault or (entry.name, entry.version) not in known
        ]

    def _unloaded(self, file: ModelFile, faults: Mapping[Path, Fault]) -> IndexEntry:
        """The entry of a version that is not loaded, by its card alone."""
        fault = faults.get(file.path)
        try:
            version = file.version or digest_version(card.read(file.path))
            reason = "not loaded"
        except CardError:
            version, reason = file.version or "", "it has no card that can be read"
        if file.fault:
            reason = self._files.without_folders(file.fault)
        elif fault is not None and fault.stamp == file.stamp:
            reason = fault.reason
        return IndexEntry(file.name, version, "UNAVAILABLE", reason)

    def _take(self, name: str, outcomes: list[Outcome]) -> None:
        """Serve what was loaded of a model, and remember why the rest was not."""
        before, sources = self._served.get(name, {}), self._sources_of(name)
        served: dict[str, S] = {}
        self._forget(name)
        for file, stamp, found in outcomes:
            if isinstance(found, ArtifactError):
                reason = self._files.without_folders(str(found))
                logger.warning("%s is not loaded: %s", file.path, found)
                self._faults[file.path] = Fault(file, stamp, reason)
            if found is None or isinstance(found, ArtifactError):
                kept = [v for v, source in sources.items() if source.path == file.path]
                served |= {v: before[v] for v in kept if v not in served}
                self._sources |= {(name, v): sources[v] for v in kept}
                continue
            version = file.version or digest_version(found.card)
            if version not in served:
                served[version] = self._serve(found, version)
                self._sources[name, version] = Source(file.path, stamp)
        if served:
            self._served[name] = served

    def _sources_of(self, name: str) -> dict[str, Source]:
        return {version: s for (owner, version), s in self._sources.items() if owner == name}

    def _forget(self, name: str) -> None:
        """Drop what is remembered of a model's files."""
        self._faults = {p: fault for p, fault in self._faults.items() if fault.file.name != name}
        self._sources = {key: source for key, source in self._sources.items() if key[0] != name}


def _unreadable(error: FolderMissing) -> Unavailable:
    logger.warning("cannot list the models: %s", error)
    return Unavailable("the folder of models cannot be read at the moment")


def _change(source: Source, stamps: Mapping[Path, Stamp]) -> str:
    """What has become of the file of a version that is served; empty if it is as it was."""
    if (now := stamps.get(source.path)) == source.stamp:
        return ""
    return "its file is gone" if now is None else "its file has changed; load it to serve the file"
