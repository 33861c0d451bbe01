"""Records of a partition, and what a reader does when their offsets do not follow each other.

An offset that a reader expects and does not get has one of four reasons:
- It does not exist: a transaction's marker, or a record that was compacted or has expired.
- A fetcher dropped its record around a rebalance, although its position has passed it.
- The embedded broker has not shown its record yet. It assigns an offset before it writes the
  record, and writes several records at once: of 15,000 records that 8 producers wrote, 4 were
  shown only after their successor.
- The topic was recreated, and the new log is shorter than the old one.

Every reader asks an `OffsetPolicy` which of them it is.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from infra.broker import embedded
from infra.broker.batches import UndecodableBatch, undecodable

LATE_SECONDS = 1.0  # within which the embedded broker shows a record
# After a change of its leader, a log may for a moment claim to end before records that were read.
SHORT_LOG_SECONDS = 5.0

logger = logging.getLogger(__name__)


class Record(Protocol):
    """A record as aiokafka gives it; `timestamp` in milliseconds since the epoch."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class Columns(NamedTuple):
    """The records of a chunk as columns of equal length."""

    offsets: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]

    def part(self, part: slice) -> "Columns":
        """Some of the records."""
        return Columns(self.offsets[part], self.keys[part], self.values[part])

    @property
    def bytes(self) -> int:
        """The bytes of all values."""
        return sum(map(len, filter(None, self.values)))

    def steps(self, most_bytes: int) -> "Iterator[Columns]":
        """Parts with values of at most so many bytes, or with a single record."""
        start = size = 0
        for n, value in enumerate(self.values):
            size += len(value or b"")
            if size > most_bytes and n > start:
                yield self.part(slice(start, n))
                start, size = n, len(value or b"")
        yield self.part(slice(start, None))


class Chunk(NamedTuple):
    """Consecutive records of one partition, in offset order.

    Offsets from `first` on that are not among the records do not exist in the log, whose id is
    `log`, if the reader knows it. `alone`: its records are to be handled one at a time
    (`streams.transport.attempts`). `unread_until`: the records from `first` to this offset were
    deleted before they were read; 0 if none were.
    """

    topic: str
    partition: int
    first: int
    records: Sequence[Any]  # each a Record, or an UndecodableBatch
    log: str = ""
    alone: bool = False
    unread_until: int = 0

    def decoded(self) -> tuple["Chunk", list[UndecodableBatch]]:
        """The chunk without the batches that cannot be decoded, and those."""
        batches = undecodable(self.records)
        if not batches:
            return self, []
        records = [r for r in self.records if type(r) is not UndecodableBatch]
        return self._replace(records=records), batches

    @property
    def columns(self) -> Columns:
        records = self.records
        return Columns(
            [r.offset for r in records], [r.key for r in records], [r.value for r in records]
        )


class Partition(Protocol):
    """One partition of a topic; a key of dicts."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...


class Reading(NamedTuple):
    """The part of a fetch that a reader may use: a chunk's `first` and `records`.

    `seek`: the offset to fetch again, if there is one. `replaced`: the records are those of a new
    log; offsets of the old one mean nothing any more.
    """

    first: int
    records: Sequence[Any]
    seek: int | None = None
    replaced: bool = False

    @property
    def next(self) -> int:
        """The offset to read next."""
        if self.seek is not None:
            return self.seek
        return self.records[-1].offset + 1 if self.records else self.first


def first_offset(record: Any) -> int:
    """The first offset that a record stands for: a batch that cannot be decoded has several."""
    return record.first if type(record) is UndecodableBatch else int(record.offset)


def find_gap(records: Sequence[Any]) -> int | None:
    """How many of the records, in offset order, come before the first gap; None without one."""
    if not records or records[-1].offset - records[0].offset == len(records) - 1:
        return None
    return next(n for n, r in enumerate(records) if r.offset != records[0].offset + n)


def warn_of_replaced(partition: Partition, expected: int) -> None:
    """Log that a partition is read from its beginning."""
    logger.warning(
        "%s[%s] ends before offset %s: the topic was recreated; reading it from its beginning",
        partition.topic, partition.partition, expected,
    )  # fmt: skip


class _Sightings:
    """Of each partition the offset at which something looks wrong, and since when."""

    def __init__(self) -> None:
        self._since: dict[Partition, tuple[int, float]] = {}

    def note(self, partition: Partition, offset: int, now: float) -> float:
        """For how many seconds it has been so; -1 at the first sight."""
        seen = self._since.get(partition)
        if seen is None or seen[0] != offset:
            self._since[partition] = offset, now
            return -1.0
        return now - seen[1]

    def forget(self, partition: Partition) -> None:
        self._since.pop(partition, None)

    def clear(self) -> None:
        self._since.clear()


class OffsetPolicy:
    """Tells gaps, late records and replaced logs apart, for all partitions of one reader.

    `on_replaced` is called with a partition whose log was replaced and the offset that was
    expected of it. It may raise; if it returns, the log is to be read from its beginning.
    `hasty`: a mistake about a replaced log costs this reader only time, so on the embedded
    broker, where no leader changes, it decides after LATE_SECONDS.
    """

    def __init__(
        self,
        on_replaced: Callable[[Partition, int], object] = warn_of_replaced,
        hasty: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_replaced = on_replaced
        self._hasty = hasty
        self._clock = clock
        self._gaps = _Sightings()
        self._short = _Sightings()
        self._late_seconds = 0.0
        self._short_log_seconds = SHORT_LOG_SECONDS

    def learn(self, cluster: str) -> None:
        """Take the broker's kind from its cluster id, before anything is read."""
        is_embedded = embedded.is_embedded(cluster)
        self._late_seconds = LATE_SECONDS if is_embedded else 0.0
        self._short_log_seconds = LATE_SECONDS if is_embedded and self._hasty else SHORT_LOG_SECONDS

    def read(
        self, partition: Partition, expected: int, records: Sequence[Any], end: int | None
    ) -> Reading:
        """What a reader that expects the offset `expected` may use of fetched `records`.

        There is at least one, in offset order; `end` is the log's high watermark, if known.
        A gap before the first record is one only at a second reading, because a fetcher may have
        dropped records. On the embedded broker every gap must last LATE_SECONDS.
        """
        replaced = records[0].offset < expected and end is not None and end < expected
        if replaced:
            self._on_replaced(partition, expected)
            expected = records[0].offset
        if records[0].offset < expected:
            records = [r for r in records if r.offset >= expected]
        if records and first_offset(records[0]) > expected and not self.is_gap(partition, expected):
            return Reading(expected, [], expected)
        self._gaps.forget(partition)
        before = find_gap(records) if self._late_seconds else None
        if before is None:
            return Reading(expected, records, None, replaced)
        late = records[before - 1].offset + 1
        self._gaps.note(partition, late, self._clock())
        return Reading(expected, records[:before], late, replaced)

    def is_gap(self, partition: Partition, first: int) -> bool:
        """Whether a reader may go on where the offset `first` did not come, and some after it.

        False at first: it then has to read there again.
        """
        return self._gaps.note(partition, first, self._clock()) >= self._late_seconds

    def is_replaced(
        self, partition: Partition, expected: int, end: int | None, answered: float
    ) -> bool:
        """Whether to read a partition from its beginning, because its log was replaced.

        For a reader that gets no records: a broker may answer nothing where a new log is too
        short. The high watermark `end` came with the answer at `answered`, in seconds. A broker
        that is silent proves nothing, so only times of answers count.
        """
        if end is None or end >= expected:
            self._short.forget(partition)
            return False
        if self._short.note(partition, expected, answered) < self._short_log_seconds:
            return False
        self._short.forget(partition)
        self._on_replaced(partition, expected)
        return True

    def clear(self) -> None:
        """Forget all gaps and short logs, because partitions or fetched records may be lost."""
        self._gaps.clear()
        self._short.clear()
