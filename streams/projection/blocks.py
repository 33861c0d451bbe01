"""The results of a chunk in blocks, as the database stores them, and its unreadable records."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from infra.broker.batches import UndecodableBatch
from infra.topics import KEPT_BYTES
from streams.codec import DECODE_ERRORS, decode_result, decode_results, encode
from streams.events import Result, is_id
from streams.records import Chunk

ID_LENGTH = 36
# To read one result is to read its block. Four blocks fill a page of the database, with some room
# for what SQLite keeps beside each.
BLOCK_ROWS, BLOCK_BYTES = 32, 4050


class UnreadableRecord(NamedTuple):
    """A record that is not a result: why, the beginning of its value, and whose result it is."""

    offset: int
    reason: str
    value: bytes | None
    task_id: str | None


class Block(NamedTuple):
    """Results of consecutive offsets and one time, as a JSON array."""

    offset: int
    timestamp: int
    answers: str


class Contents(NamedTuple):
    """The contents of a chunk, which ends before the offset `end`.

    Its results are columns of equal length, in the order of offsets; `ids` has 36 bytes for each.
    """

    partition: int
    first: int
    end: int
    offsets: Sequence[int]
    timestamps: Sequence[int]
    ids: bytes
    values: Sequence[bytes]
    unreadable: Sequence[UnreadableRecord]
    log: str = ""  # as in the chunk
    unread_until: int = 0  # as in the chunk

    @property
    def records(self) -> int:
        return len(self.offsets) + len(self.unreadable)

    @property
    def missing(self) -> int:
        """How many of its offsets are not in the log."""
        return self.end - self.first - self.records

    @property
    def unread(self) -> range:
        """The offsets whose records were deleted before they were read."""
        return range(self.first, self.unread_until)

    @property
    def bytes(self) -> int:
        """The length of the values that are kept."""
        return sum(map(len, self.values)) + sum(len(u.value or b"") for u in self.unreadable)

    def since(self, offset: int) -> "Contents":
        """The part from an offset on."""
        n = bisect_left(self.offsets, offset)
        return self._replace(
            first=max(self.first, offset),
            offsets=self.offsets[n:],
            timestamps=self.timestamps[n:],
            ids=self.ids[ID_LENGTH * n :],
            values=self.values[n:],
            unreadable=[u for u in self.unreadable if u.offset >= offset],
        )

    def until(self, offset: int) -> "Contents":
        """The part before an offset."""
        n = bisect_left(self.offsets, offset)
        return self._replace(
            end=min(self.end, offset),
            offsets=self.offsets[:n],
            timestamps=self.timestamps[:n],
            ids=self.ids[: ID_LENGTH * n],
            values=self.values[:n],
            unreadable=[u for u in self.unreadable if u.offset < offset],
        )

    def as_unreadable(self, reason: str) -> "Contents":
        """The same offsets with none of their records stored as a result."""
        kept = [value[:KEPT_BYTES] for value in self.values]
        ids = [self.ids[n : n + ID_LENGTH].decode() for n in range(0, len(self.ids), ID_LENGTH)]
        failed = zip(self.offsets, kept, ids, strict=True)
        return self._replace(
            offsets=[],
            timestamps=[],
            ids=b"",
            values=[],
            unreadable=[UnreadableRecord(o, reason, value, i) for o, value, i in failed]
            + [UnreadableRecord(u.offset, reason, None, u.task_id) for u in self.unreadable],
        )

    def runs(self) -> Iterator[tuple[int, int]]:
        """Slices of the columns with consecutive offsets and one timestamp, as (start, end)."""
        end = 0
        for _, same in groupby(self.timestamps):
            start, end = end, end + len(list(same))
            if self.offsets[end - 1] - self.offsets[start] == end - 1 - start:
                yield start, end
            else:  # rare: an offset among them is not a result, or not in the log
                yield from ((n, n + 1) for n in range(start, end))

    def blocks(self) -> Iterator[Block]:
        """The results in blocks of at most BLOCK_ROWS and, unless one is longer, BLOCK_BYTES."""
        longest = max(map(len, self.values), default=0) + 1  # with its comma
        rows = max(1, min(BLOCK_ROWS, BLOCK_BYTES // longest))
        for start, end in self.runs():
            for n in range(start, end, rows):
                answers = b"[%b]" % b",".join(self.values[n : min(n + rows, end)])
                yield Block(self.offsets[n], self.timestamps[n], answers.decode())


def read(chunk: Chunk) -> Contents:
    """The contents of a chunk. A result in another notation than ours is encoded in ours."""
    values = [record.value or b"" for record in chunk.records]
    results = decode_results(values)
    if results is None:
        return _read_singly(chunk)
    return _contents(chunk, chunk.records, results, values, [])


def _read_singly(chunk: Chunk) -> Contents:
    found = [(record, _read_one(record)) for record in chunk.records]
    good = [(record, result) for record, result in found if isinstance(result, Result)]
    results = [result for _, result in good]
    unreadable = [
        _unreadable(record, reason) for record, reason in found if isinstance(reason, str)
    ]
    records = [record for record, _ in good]
    return _contents(chunk, records, results, [encode(r) for r in results], unreadable)


def _contents(
    chunk: Chunk,
    records: Sequence[Any],
    results: Sequence[Result],
    values: Sequence[bytes],
    unreadable: Sequence[UnreadableRecord],
) -> Contents:
    return Contents(
        chunk.partition,
        chunk.first,
        chunk.records[-1].offset + 1 if chunk.records else chunk.first,
        [record.offset for record in records],
        [record.timestamp for record in records],
        "".join([result.id for result in results]).encode(),
        values,
        unreadable,
        chunk.log,
        chunk.unread_until,
    )


def _unreadable(record: Any, reason: str) -> UnreadableRecord:
    if type(record) is UndecodableBatch:
        return UnreadableRecord(record.offset, reason, record.head, None)
    value = record.value and record.value[:KEPT_BYTES]
    key = (record.key or b"").decode("latin-1")
    return UnreadableRecord(record.offset, reason, value, key if is_id(key) else None)


def _read_one(record: Any) -> Result | str:
    """The result in a record, or why it has none."""
    if type(record) is UndecodableBatch:
        return f"the batch of the offsets {record.first} to {record.last}: {record.reason}"[:200]
    if record.value is None:
        return "tombstone"
    try:
        return decode_result(record.value)
    except DECODE_ERRORS as e:
        return f"not a result: {e}"[:200]
