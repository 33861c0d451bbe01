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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from infra.broker.log_id import is_same_log
from streams import commit_metadata
from streams.commit_metadata import CommitMetadata
from streams.records import Reading
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
    """In the metadata of the group's committed offset. `log` names the log that is read."""

    def __init__(self, thread: ConsumerThread, log: Callable[[], str]) -> None:
        self._thread = thread
        self._log = log

    async def _committed(self, tp: TP) -> OffsetAndMetadata | None:
        """The group's commit, if it is of this log."""
        commit = (await self._thread.committed([tp])).get(tp)
        if commit is None or commit.offset < 0:
            return None
        log = commit_metadata.decode(commit.metadata).log
        return commit if not log or is_same_log(log, self._log()) else None

    async def read(self, tp: TP, offset: int) -> int:
        """The count, if the group is at this offset."""
        commit = await self._committed(tp)
        if commit is None or commit.offset != offset:
            return 0
        return commit_metadata.decode(commit.metadata).attempts

    async def write(self, tp: TP, offset: int, attempts: int) -> None:
        """Commit the same offset with another count; never another offset."""
        commit = await self._committed(tp)
        at = (await self._thread.earliest_offsets(tp))[tp] if commit is None else commit.offset
        if at != offset:
            return
        metadata = commit_metadata.encode(CommitMetadata(log=self._log(), attempts=attempts))
        try:
            await self._thread.commit_once({tp: OffsetAndMetadata(offset, metadata)})
        except KafkaError as e:  # the next commit shows whether the broker is there
            logger.warning("%s: an attempt could not be counted: %r", tp, e)


class _Place(msgspec.Struct, frozen=True):
    log: str
    offset: int
    attempts: int


class FileCounter:
    """In a small file for each partition of a group, beside the status files."""

    def __init__(self, folder: Path, group: str, log: Callable[[], str]) -> None:
        self._folder = folder
        self._group = group
        self._log = log

    def _path(self, tp: TP) -> Path:
        return self._folder / f"{self._group}-{tp.topic}-{tp.partition}.attempts"

    async def read(self, tp: TP, offset: int) -> int:
        """The count; 0 for another offset, another log, or a file that cannot be read."""
        with suppress(OSError, msgspec.DecodeError):
            place = msgspec.json.decode(self._path(tp).read_bytes(), type=_Place)
            if (place.log, place.offset) == (self._log(), offset):
                return place.attempts
        return 0

    async def write(self, tp: TP, offset: int, attempts: int) -> None:
        """Replace the file in one step. Without a folder to write to, nothing is counted."""
        path = self._path(tp)
        part = path.with_suffix(".new")
        with suppress(OSError):
            part.write_bytes(msgspec.json.encode(_Place(self._log(), offset, attempts)))
            part.replace(path)


class AttemptSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`folder`: of a FileCounter, for the embedded broker. `window`: most records that a process
    has fetched and not committed."""

    folder: Path
    group: str
    embedded: bool
    window: int

    def new_counter(self, thread: ConsumerThread, log: Callable[[], str]) -> Counter:
        if self.embedded:
            return FileCounter(self.folder, self.group, log)
        return CommitCounter(thread, log)


class Attempts:
    """Of one consumer: counts its attempts, and decides which records to handle alone.

    `log` names the log that is read.
    """

    def __init__(
        self, settings: AttemptSettings, thread: ConsumerThread, log: Callable[[], str]
    ) -> None:
        self._window = settings.window
        self._counter = settings.new_counter(thread, log)
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

    def forget(self, tp: TP) -> None:
        """The partition's log was replaced."""
        self._begun.pop(tp, None)
        self._alone.pop(tp, None)

    async def reset(self, tp: TP, offset: int | None) -> None:
        """The partition is given up in order, with `offset` as the next to commit, if known."""
        begun = self._begun.pop(tp, None)
        self._alone.pop(tp, None)
        if begun is not None and begun[1] == offset:
            await self._counter.write(tp, offset, 0)
