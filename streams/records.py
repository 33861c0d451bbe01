"""Holes in a log: offsets of which a fetch had no record, though it had later ones.

They may not exist (a transaction's marker, a compacted record), or a fetcher has dropped them
around a rebalance, or the broker will show them yet: the embedded one gives a record its offset
before it writes it, and writes several at once. Of 15,000 records that 8 producers wrote, 4 were
shown only after their successor.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

EMBEDDED_SECONDS = 1.0  # that a hole in the embedded broker's log must last to be one


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


class Chunk(NamedTuple):
    """Consecutive records of one partition, in offset order.

    Offsets from `first` on that are not among the records do not exist in the log.
    """

    topic: str
    partition: int
    first: int
    records: Sequence[Any]  # each a Record

    @property
    def columns(self) -> Columns:
        records = self.records
        return Columns(
            [r.offset for r in records], [r.key for r in records], [r.value for r in records]
        )


def find_hole(records: Sequence[Any], first: int) -> int | None:
    """How many of the records come before the first hole of a log that is read from the offset
    `first` on; None without one. The records are in the order of their offsets."""
    if not records or records[-1].offset - first == len(records) - 1:
        return None
    return next(n for n, record in enumerate(records) if record.offset != first + n)


class Holes:
    """Those that are being read again, by partition."""

    def __init__(self) -> None:
        self._seen: dict[Any, tuple[int, float]] = {}

    def is_real(self, partition: Any, first: int, now: float, seconds: float) -> bool:
        """Whether the hole that begins at `first` was there at an earlier reading, at least
        `seconds` before `now`. If not, read the partition again from `first`."""
        seen = self._seen.get(partition)
        if seen is None or seen[0] != first:
            self._seen[partition] = first, now
            return False
        return now - seen[1] >= seconds

    def forget(self, partition: Any) -> None:
        """The partition's records came without one."""
        self._seen.pop(partition, None)

    def clear(self) -> None:
        """Partitions may be lost; who reads them next begins anew."""
        self._seen.clear()
