"""Rebuild the projection from the log, in a new file that replaces the old one when complete."""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from infra.config import Settings
from streams.maintenance.scan import Progress, open_log
from streams.projection.blocks import read
from streams.projection.faults import explained
from streams.projection.lock import WriterLock
from streams.projection.reader import Reader
from streams.projection.store import Applied, Store


class Rebuilt(NamedTuple):
    """The records that a rebuild read, and `kept`: old rows whose records have expired.

    `unread`: how many results the broker had deleted before the old database had them. The new
    database does not list them any more.
    """

    applied: Applied
    kept: int
    unread: int = 0


async def rebuild(settings: Settings, progress: Progress) -> Rebuilt:
    """Rebuild `settings.database` from `results`.

    Raises StoreError while a sink holds the database or if its files cannot be written,
    BrokerUnavailable, and LogReplaced.
    """
    path = settings.database
    part = path.with_name(path.name + ".rebuild")
    with WriterLock(path):
        with explained(part, write=True):
            _remove(part)
        try:
            rebuilt = await _replay(settings, part, progress)
        except BaseException:
            _remove(part)
            raise
        with explained(path, write=True):
            _remove(path, only_journals=True)
            part.replace(path)
    return rebuilt


async def _replay(settings: Settings, part: Path, progress: Progress) -> Rebuilt:
    total = Applied()
    done = kept = unread = 0
    old = settings.database
    async with open_log(settings, settings.names.results) as log:
        with closing(Store(part, log.id)) as store:
            if old.exists():
                with Reader(old) as reader:  # refuses a file that is not a projection
                    unread = sum(end - first for *_, first, end in reader.deleted_unread())
                kept = await asyncio.to_thread(store.backfill, old, log.starts)
            async for chunk in log.chunks():
                applied = await asyncio.to_thread(store.apply_all, [read(chunk)])
                total = Applied(*(a + b for a, b in zip(total, applied, strict=True)))
                done += len(chunk.records)
                progress(done, log.records)
            while await asyncio.to_thread(store.add_rows):
                pass
    return Rebuilt(total, kept, unread)


def _remove(path: Path, only_journals: bool = False) -> None:
    for ending in ("-wal", "-shm", *(() if only_journals else ("",))):
        (path.parent / (path.name + ending)).unlink(missing_ok=True)
