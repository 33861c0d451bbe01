"""The models that a worker answers with, and new ones in their place without a restart.

A worker answers the whole of a chunk with the version that it had at the chunk's beginning. If it
cannot load a new version, it goes on with the former one, and its status gives the reason.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable

from threadpoolctl import threadpool_limits

from infra.config import Settings
from infra.process.gc import renew_frozen
from infra.process.reloading import Reloading
from model import card as cards
from model.errors import ArtifactError, CardError, describe
from model.versions import Promotions
from streams.processing import isolation
from streams.processing.child import Job, sources_of
from streams.processing.isolation import Isolation
from streams.processing.models import Models, load_models
from streams.processing.router import Router

RELEASE_SECONDS = 1.0

logger = logging.getLogger("petalstream")


class ModelSet:
    """The models that were loaded at one time, and what answers with them."""

    def __init__(self, models: Models, worker: str, settings: Settings) -> None:
        self.models = models
        self.router = Router(models, worker, settings.max_rows)
        memory = settings.isolated_memory_mb * 1_000_000 or isolation.default_memory()
        job = Job(os.getpid(), sources_of(models), models.faults, worker, settings.max_rows, memory)
        self.isolation = Isolation(job, settings.stall_timeout)
        self.chunks = 0  # in progress


class LiveModels:
    """For one event loop. `since` is when the present default began to answer, in epoch seconds.

    `loading` is the id of the default that is being loaded. `on_change` is called with the ids of
    the default and of the one before.
    """

    _current: ModelSet  # from `open` on

    def __init__(
        self,
        settings: Settings,
        worker: str,
        on_change: Callable[[str, str], object] = lambda _new, _old: None,
    ) -> None:
        self.since = 0.0
        self.loading: str | None = None
        self._settings = settings
        self._worker = worker
        self._on_change = on_change
        self._earlier: list[ModelSet] = []  # with chunks in progress
        self._failure: str | None = None
        self._is_open = False
        # It looks for promotions first: one that comes later is noticed.
        self._reloading = Reloading(self._load, Promotions(settings.model).is_new)

    def open(self) -> None:
        """Load the models; raises ArtifactError."""
        models = load_models(self._settings.model, self._settings.models)
        self._current = ModelSet(models, self._worker, self._settings)
        self._is_open = True
        self.since = time.time()
        self._reloading.open()

    async def close(self) -> None:
        """Stop watching, and end child processes."""
        await self._reloading.close()
        if self._is_open:
            for each in (*self._earlier, self._current):
                await each.isolation.close()

    @property
    def default(self) -> str | None:
        """The id of the model of tasks that name none."""
        return self._current.models.default.card.id if self._is_open else None

    @property
    def ids(self) -> list[str]:
        """Of all models that answer, also of those that only complete what they began."""
        sets = [self._current, *self._earlier] if self._is_open else []
        return sorted({model_id for each in sets for model_id in each.models.ids})

    @property
    def unavailable(self) -> list[str]:
        """Why models are not served, a sentence each."""
        faults = self._current.models.faults if self._is_open else []
        failure = [] if self._failure is None else [self._failure]
        return [*failure, *(f"{fault.name}: {fault.reason}" for fault in faults)]

    def begin(self) -> ModelSet:
        """The models for a chunk, until `end`."""
        self._current.chunks += 1
        return self._current

    async def end(self, used: ModelSet) -> None:
        """The chunk is complete."""
        used.chunks -= 1
        if not used.chunks and used in self._earlier:
            self._earlier.remove(used)
            await self._release(used)

    async def _release(self, used: ModelSet) -> None:
        await used.isolation.close()
        # Callers still hold it.
        asyncio.get_running_loop().call_later(RELEASE_SECONDS, renew_frozen)

    def reload(self) -> None:
        """Load what changed, after a load that is in progress."""
        self._reloading.request()

    async def _load(self) -> None:
        try:
            self._failure = None
            self.loading = await asyncio.to_thread(_id_at, self._settings)
            new = await asyncio.to_thread(self._loaded, self._current.models)
        except Exception as e:  # a model may run any code, and those that are there go on
            reason = str(e) if isinstance(e, ArtifactError | CardError) else describe(e)
            self._failure = f"{self.loading or 'the new model'} is not loaded: {reason}"
            logger.error("%s; %s goes on", self._failure, self.default)
            return
        finally:
            self.loading = None
        if new is not None:
            await self._take(new)

    def _loaded(self, before: Models) -> ModelSet | None:
        """New models; None if the files are those that were loaded before."""
        models = load_models(self._settings.model, self._settings.models, before)
        if models.is_same(before):
            return None
        made = ModelSet(models, self._worker, self._settings)
        threadpool_limits(1)  # of libraries that came with the new ones
        return made

    async def _take(self, new: ModelSet) -> None:
        before, self._current = self._current, new
        old, now = before.models.default.card.id, new.models.default.card.id
        if old != now:
            self.since = time.time()
            self._on_change(now, old)
        if before.chunks:
            self._earlier.append(before)
        else:
            await self._release(before)


def _id_at(settings: Settings) -> str:
    return cards.read(settings.model).id
