"""Record batches as a broker stores them: split, checked, and decoded within limits.

A batch that cannot be decoded becomes one `UndecodableBatch` in place of its records, so a reader
can set it aside and go on.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from mmap import mmap
from typing import Any, ClassVar

import cramjam
from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch

from infra.topics import KEPT_BYTES, MAX_BATCH_BYTES, MAX_BATCH_RECORDS

# Base offset and length, which all formats have; in format 2, also the last offset's distance from
# the base offset, and at the header's end the number of records.
FRAME = struct.Struct(">qi")
LAST_DELTA, COUNT = struct.Struct(">23xi"), struct.Struct(">57xi")
HEADER_BYTES, MAGIC, ATTRIBUTES, CODEC_MASK = 61, 16, 22, 7
LEGACY_KEY = 26  # where the key's length is in format 1
USUAL_RATIO = 16  # of compression; that of JSON is 5 to 10
XERIAL, XERIAL_HEADER = b"\x82SNAPPY\x00", 16  # how Java frames blocks of snappy

UNDECODABLE = "undecodable_batch"  # the reason of its dead letter

Data = bytes | memoryview


class BadBatch(Exception):
    """Why a batch cannot be decoded; `str()` follows the batch's name in a sentence."""


@dataclass(frozen=True, slots=True)
class UndecodableBatch:
    """In the place of the records of a batch that cannot be decoded: its offsets, and the reason.

    It has the fields of a record, with the batch's last offset, and neither key nor value. `head`:
    the batch's first KEPT_BYTES; `size` and `digest`, a SHA-256 in hex, are those of the whole.
    """

    topic: str
    partition: int
    first: int
    last: int
    reason: str
    head: bytes
    size: int
    digest: str

    timestamp: ClassVar[int] = 0  # that of a damaged batch may be anything
    key: ClassVar[None] = None
    value: ClassVar[None] = None
    headers: ClassVar[tuple[()]] = ()

    @property
    def offset(self) -> int:
        return self.last


def undecodable(records: Sequence[Any]) -> list[UndecodableBatch]:
    """Those of the records that stand for a batch."""
    return [r for r in records if type(r) is UndecodableBatch]


class Frames:
    """The batches in one partition's part of a fetch response, as bytes.

    A broker may cut off the last one, which is then left out. Without any before it, it is there as
    it is: its reader could not go on otherwise.
    """

    def __init__(self, data: bytes | None) -> None:
        self._data = memoryview(data or b"")
        self._starts = _starts(data or b"")
        self._next = 0

    def has_next(self) -> bool:
        return self._next < len(self._starts) - 1

    def size_in_bytes(self) -> int:
        """0, because aiokafka asks only where there is no batch."""
        return 0

    def next(self) -> memoryview:
        """The next batch; there must be one."""
        n = self._next
        self._next = n + 1
        return self._data[self._starts[n] : self._starts[n + 1]]

    def following(self) -> int | None:
        """The base offset of the next batch, or None at the end."""
        start = self._starts[self._next]
        rest = len(self._data) - start
        return FRAME.unpack_from(self._data, start)[0] if rest >= FRAME.size else None


def _starts(data: bytes) -> list[int]:
    """Where each batch begins, and where the last one ends."""
    starts = [0]
    start, last = 0, len(data) - FRAME.size
    unpack = FRAME.unpack_from
    while start < last:
        length = unpack(data, start)[1]
        if length <= 0:  # it is damaged, and so is all that follows
            return [*starts, len(data)]
        start += FRAME.size + length
        if start > len(data):
            break
        starts.append(start)
    return starts if len(starts) > 1 or not data else [0, len(data)]


def parse(frame: memoryview) -> Any:
    """The batch in a frame, as aiokafka's class, with its checksum checked; raises BadBatch."""
    if len(frame) >= HEADER_BYTES and frame[MAGIC] == 2:
        batch: Any = DefaultRecordBatch(frame)
    elif len(frame) >= LEGACY_KEY + 8 and frame[MAGIC] == 1:
        batch = LegacyRecordBatch(frame, 1)
    else:
        raise BadBatch(_damage(frame))
    if not batch.validate_crc():
        raise BadBatch(_damage(frame))
    return batch


def _damage(frame: memoryview) -> str:
    size = len(frame)
    if size < FRAME.size or FRAME.unpack_from(frame)[1] != size - FRAME.size:
        return f"it is cut off after {size:,} bytes"
    if size <= MAGIC or not (frame[MAGIC] == 1 or (frame[MAGIC] == 2 and size >= HEADER_BYTES)):
        return f"its {size:,} bytes are in no known format"
    return "its checksum does not match: it is damaged"


def decode(frame: memoryview, batch: Any) -> tuple[list[Any], int]:
    """The records of a batch that was parsed, and their bytes after decompression.

    Raises BadBatch.
    """
    try:
        size = len(frame)
        if frame[MAGIC] != 2:
            return _decode_legacy(frame, batch)
        if frame[ATTRIBUTES] & CODEC_MASK:
            batch, size = _decompressed(frame)
        records = list(batch)
        if records:
            first, last = records[0].offset, records[-1].offset
            if (
                not batch.base_offset
                <= first
                <= last - len(records) + 1
                <= last
                < batch.next_offset
            ):
                raise BadBatch("the offsets of its records are not its own")
        return records, size
    except BadBatch:
        raise
    except UnicodeDecodeError as e:
        raise BadBatch("a record has a header name that is not UTF-8") from e
    except Exception as e:  # whatever a parser raises here, these bytes are the reason
        told = e.args[0] if e.args else type(e).__name__
        raise BadBatch(f"its records cannot be read: {told}") from e


def _decompressed(frame: memoryview) -> tuple[Any, int]:
    """The batch without compression, and its size. aiokafka decompresses without a limit."""
    (count,) = COUNT.unpack_from(frame)
    if not 0 <= count <= MAX_BATCH_RECORDS:
        raise BadBatch(f"it has {count:,} records, the limit is {MAX_BATCH_RECORDS:,}")
    plain = bytearray(frame[:HEADER_BYTES])
    plain[ATTRIBUTES] &= ~CODEC_MASK
    plain += decompress(frame[ATTRIBUTES] & CODEC_MASK, frame[HEADER_BYTES:])
    return DefaultRecordBatch(plain), len(plain)


def _decode_legacy(frame: memoryview, batch: Any) -> tuple[list[Any], int]:
    """A message of format 1, which holds others if it is compressed."""
    size = len(frame)
    if codec := frame[ATTRIBUTES - 5] & CODEC_MASK:
        (key,) = struct.unpack_from(">i", frame, LEGACY_KEY)
        size = len(decompress(codec, frame[LEGACY_KEY + 8 + max(0, key) :]))
    return list(batch), size


def decompress(codec: int, data: Data) -> bytes:
    """The records in compressed data, at most MAX_BATCH_BYTES; raises BadBatch."""
    decompressor = DECOMPRESSORS.get(codec)
    if decompressor is None:
        raise BadBatch(f"it has the unknown compression codec {codec}")
    try:
        return decompressor(data)
    except (zlib.error, cramjam.DecompressionError, struct.error) as e:
        if "whole buffer" in str(e):
            raise _too_large() from e
        raise BadBatch(f"it cannot be decompressed: {e}") from e


def _too_large() -> BadBatch:
    return BadBatch(f"it has over {MAX_BATCH_BYTES:,} bytes after decompression, the limit")


def _gunzip(data: Data) -> bytes:
    parts = []
    room = MAX_BATCH_BYTES
    while data:  # gzip allows several members
        member = zlib.decompressobj(wbits=31)
        parts.append(member.decompress(data, room + 1))
        room -= len(parts[-1])
        if room < 0:
            raise _too_large()
        if not member.eof:
            raise BadBatch("it cannot be decompressed: its gzip data ends too early")
        data = member.unused_data
    return b"".join(parts)


def _unsnap(data: Data) -> bytes:
    if bytes(data[: len(XERIAL)]) != XERIAL:
        return _unsnap_block(data, MAX_BATCH_BYTES)
    parts = []
    room, at = MAX_BATCH_BYTES, XERIAL_HEADER
    while at < len(data):
        (length,) = struct.unpack_from(">i", data, at)
        if not 0 < length <= len(data) - at - 4:
            raise BadBatch("it cannot be decompressed: its snappy data ends too early")
        parts.append(_unsnap_block(data[at + 4 : at + 4 + length], room))
        room -= len(parts[-1])
        at += 4 + length
    return b"".join(parts)


def _unsnap_block(data: Data, room: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(bytes(data)) > room:
        raise _too_large()
    return bytes(cramjam.snappy.decompress_raw(bytes(data)))


def _into(decompress_into: Callable[..., int]) -> Callable[[Data], bytes]:
    """A decompressor that writes into memory of MAX_BATCH_BYTES, and fails beyond."""

    def decompress(data: Data) -> bytes:
        packed = bytes(data)
        if len(packed) < MAX_BATCH_BYTES // USUAL_RATIO:  # a quarter of the cost of the other way
            room = bytearray(USUAL_RATIO * len(packed))
            with suppress(cramjam.DecompressionError):
                return bytes(memoryview(room)[: decompress_into(packed, room)])
        # The system provides only the pages that are written.
        with mmap(-1, MAX_BATCH_BYTES) as memory:
            return memory[: decompress_into(packed, memory)]

    return decompress


DECOMPRESSORS: dict[int, Callable[[Data], bytes]] = {
    1: _gunzip,
    2: _unsnap,
    3: _into(cramjam.lz4.decompress_into),
    4: _into(cramjam.zstd.decompress_into),
}


def set_aside(
    partition: TopicPartition,
    frame: memoryview,
    reason: str,
    position: int,
    following: int | None,
    end: int | None,
) -> UndecodableBatch:
    """A batch that cannot be decoded, from which a reader at `position` goes on.

    Its header may be damaged as well, so its offsets count only as far as they fit: it ends before
    the `following` batch, and before the log's `end`. If nothing fits, it has one offset, and the
    reader comes upon the rest of it.
    """
    base, last = _offsets(frame)
    if following is not None and position < following and (end is None or following <= end):
        last = following - 1
    elif not (position <= last and (end is None or last < end)):
        last = position
    first = base if 0 <= base <= last else position
    data = bytes(frame)
    return UndecodableBatch(
        partition.topic,
        partition.partition,
        first,
        last,
        reason,
        data[:KEPT_BYTES],
        len(data),
        sha256(data).hexdigest(),
    )


def _offsets(frame: memoryview) -> tuple[int, int]:
    """The first and the last offset by the header; -1 where that cannot be right."""
    if len(frame) < FRAME.size:
        return -1, -1
    (base, _), magic = FRAME.unpack_from(frame), frame[MAGIC] if len(frame) > MAGIC else -1
    if magic == 1:
        return -1, base  # that of the last message in it
    if len(frame) < HEADER_BYTES:
        return base, -1
    (delta,), (count,) = LAST_DELTA.unpack_from(frame), COUNT.unpack_from(frame)
    return base, base + delta if delta >= 0 and 0 < count <= delta + 1 else -1
