"""How often in a row a process has ended at the same offset of a partition, and what follows.

A record that ends a worker would end the next one, and so on for ever. So a worker counts its
attempt before it handles the first records of a partition, in a place that survives it. Commits
that move the offset, an orderly stop and a rebalance reset the count. After MAX_ENDS the records
from that offset on are delivered in small chunks that are marked `alone`: the worker handles
their records one at a time in a child process, and finds the one.

With Kafka the count is in the metadata of the group's commit, so it follows the partition to other
machines. The embedded broker keeps no metadata; its workers are on one machine and use files.
"""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec
from faust.types import TP

from infra.broker import embedded
from streams.records import Reading
from streams.transport import commit_metadata
from streams.transport.thread import ConsumerThread

MAX_ENDS = 2
ALONE_RECORDS = 50  # in a chunk, which an orderly stop or rebalance waits for
CLEAN_RECORDS = 4000  # after a record that was set aside: where one is, others may follow
IN_HAND_CHUNKS = 16  # at most, that a process has fetched and not acknowledged

logger = logging.getLogger("petalstream")


class Counter(Protocol):
    """Where a count survives the process."""

    async def read(self, tp: TP, offset: int) -> int: ...
    async def write(self, tp: TP, offset: int, attempts: int) -> None: ...


class CommitCounter:
    """In the metadata of the group's committed offset."""

    def __init__(self, thread: ConsumerThread) -> None:
        self._thread = thread

    async def read(self, tp: TP, offset: int) -> int:
        """The count, if the group is at this offset."""
        commit = await self._thread.fetch_commit(tp)
        if commit is None or commit.offset != offset:
            return 0
        return commit_metadata.decode(commit.metadata).attempts

    async def write(self, tp: TP, offset: int, attempts: int) -> None:
        """Commit the same offset with another count; never another offset."""
        commit = await self._thread.fetch_commit(tp)
        at = (await self._thread.earliest_offsets(tp))[tp] if commit is None else commit.offset
        if at != offset:
            return
        known = commit_metadata.decode(commit.metadata if commit is not None else None)
        metadata = msgspec.structs.replace(known, attempts=attempts)
        await self._thread.commit_with_metadata(tp, offset, commit_metadata.encode(metadata))


class _Place(msgspec.Struct, frozen=True):
    cluster: str
    offset: int
    attempts: int


class FileCounter:
    """In a small file for each partition of a group, beside the status files."""

    def __init__(self, folder: Path, group: str, cluster: str) -> None:
        self._folder = folder
        self._group = group
        self._cluster = cluster

    def _path(self, tp: TP) -> Path:
        return self._folder / f"{self._group}-{tp.topic}-{tp.partition}.attempts"

    async def read(self, tp: TP, offset: int) -> int:
        """The count; 0 for another offset, another log, or a file that cannot be read."""
        with suppress(OSError, msgspec.DecodeError):
            place = msgspec.json.decode(self._path(tp).read_bytes(), type=_Place)
            if (place.cluster, place.offset) == (self._cluster, offset):
                return place.attempts
        return 0

    async def write(self, tp: TP, offset: int, attempts: int) -> None:
        """Replace the file in one step. Without a folder to write to, nothing is counted."""
        path = self._path(tp)
        part = path.with_suffix(".new")
        with suppress(OSError):
            part.write_bytes(msgspec.json.encode(_Place(self._cluster, offset, attempts)))
            part.replace(path)


class AttemptSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`folder` and `cluster`: of a FileCounter. `window`: most records that a process has fetched
    and not committed."""

    folder: Path
    group: str
    cluster: str
    window: int

    def new_counter(self, thread: ConsumerThread) -> Counter:
        if embedded.is_embedded(self.cluster):
            return FileCounter(self.folder, self.group, self.cluster)
        return CommitCounter(thread)


class Attempts:
    """Of one consumer: counts its attempts, and decides which records to handle alone."""

    def __init__(self, settings: AttemptSettings, thread: ConsumerThread) -> None:
        self._window = settings.window
        self._counter = settings.new_counter(thread)
        self._begun: dict[TP, tuple[int, int]] = {}  # the generation, and the offset
        self._alone: dict[TP, int] = {}  # the offset from which records are no longer alone

    async def begin(self, tp: TP, generation: int, offset: int, end: int | None) -> None:
        """Count an attempt at `offset`, once in a generation. `end`: of the log, if known."""
        if tp in self._begun and self._begun[tp][0] == generation:
            return
        ends = await self._counter.read(tp, offset)
        await self._counter.write(tp, offset, ends + 1)
        self._begun[tp] = generation, offset
        self._alone.pop(tp, None)
        if ends >= MAX_ENDS:
            self._alone[tp] = min(offset + self._window, end if end is not None else offset + 1)
            logger.warning(
                "%s[%d]: %d processes in a row ended at offset %d; "
                "its records up to %d are handled one by one",
                tp.topic, tp.partition, ends, offset, self._alone[tp] - 1,
            )  # fmt: skip

    def limit(self, tp: TP, reading: Reading) -> Reading:
        """Fewer records, where they are to be handled alone."""
        if not self.is_alone(tp, reading.first):
            return reading
        until = min(self._alone[tp], reading.first + ALONE_RECORDS)
        records = [r for r in reading.records[:ALONE_RECORDS] if r.offset < until]
        if not records or len(records) == len(reading.records):
            return reading
        seek = reading.records[len(records)].offset
        return Reading(reading.first, records, seek, reading.replaced)

    def is_alone(self, tp: TP, offset: int) -> bool:
        """Whether the records from `offset` on are to be handled alone."""
        return offset < self._alone.get(tp, 0)

    def found(self, tp: TP, offset: int) -> None:
        """A record was set aside: all is well if so many after it are."""
        if tp in self._alone:
            self._alone[tp] = offset + CLEAN_RECORDS

    async def reset(self, tp: TP, offset: int | None) -> None:
        """The partition is given up in order, with `offset` as the next to commit, if known."""
        begun = self._begun.pop(tp, None)
        self._alone.pop(tp, None)
        if begun is not None and begun[1] == offset:
            await self._counter.write(tp, offset, 0)
