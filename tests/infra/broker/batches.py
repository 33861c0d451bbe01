"""Record batches for tests, as producers and brokers make them, and damaged ones."""

import struct
from collections.abc import Sequence

import cramjam
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

HEADER_BYTES, CRC, CRC_START, ATTRIBUTES, LAST_DELTA, COUNT = 61, 17, 21, 22, 23, 57
TRANSACTIONAL, CONTROL = 0x10, 0x20
Header = tuple[str, bytes]


def batch(
    first: int,
    count: int,
    codec: int = 0,
    value: bytes = b"",
    headers: Sequence[Header] = (),
    producer: int = -1,
    attributes: int = 0,
) -> bytes:
    """A record batch of the offsets `first` to `first + count - 1`, as a broker stores it."""
    builder = DefaultRecordBatchBuilder(
        2, codec, int(bool(attributes & TRANSACTIONAL)), producer, 0, 0, 100_000_000
    )
    for n in range(count):
        name = b"%d" % (first + n)
        stamp = 1_763_920_000_000 + n
        builder.append(n, stamp, b"k" + name, value or b"v" + name, list(headers) or [("h", name)])
    built = bytearray(builder.build())
    built[0:8] = first.to_bytes(8, "big")  # the base offset, which the broker sets
    built[ATTRIBUTES] |= attributes
    return sealed(built)


def marker(offset: int, producer: int, commit: bool) -> bytes:
    """The control batch that ends a transaction."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, producer, 0, -1, 1000)
    builder.append(0, 1, struct.pack(">HH", 0, int(commit)), b"\0" * 6, [])
    built = bytearray(builder.build())
    built[0:8] = offset.to_bytes(8, "big")
    built[ATTRIBUTES] |= CONTROL
    return sealed(built)


def sealed(data: bytes | bytearray) -> bytes:
    """The batch with the length and the checksum of its bytes."""
    data = bytearray(data)
    data[8:12] = (len(data) - 12).to_bytes(4, "big")
    data[CRC : CRC + 4] = calc_crc32c(bytes(data[CRC_START:])).to_bytes(4, "big")
    return bytes(data)


def with_codec(data: bytes, codec: int, body: bytes | None = None) -> bytes:
    """The batch with another codec in its header, and another body."""
    changed = bytearray(data if body is None else data[:HEADER_BYTES] + body)
    changed[ATTRIBUTES] = changed[ATTRIBUTES] & ~7 | codec
    return sealed(changed)


def with_count(data: bytes, count: int) -> bytes:
    """The batch that claims to have `count` records."""
    changed = bytearray(data)
    changed[COUNT : COUNT + 4] = struct.pack(">i", count)
    return sealed(changed)


def with_bad_header_name(first: int, count: int) -> bytes:
    """A batch whose last record has a header name in Latin-1."""
    good = batch(first, count, headers=[("Nummer", b"1")])
    at = good.rindex(b"Nummer")
    return sealed(good[:at] + b"N\xfcmmer" + good[at + 6 :])


def snappy_blocks(body: bytes) -> bytes:
    """Snappy as Java frames it, in blocks of 32 kB."""
    blocks = [body[n : n + 32_768] for n in range(0, len(body), 32_768)]
    packed = [bytes(cramjam.snappy.compress_raw(block)) for block in blocks]
    framed = b"".join(struct.pack(">i", len(block)) + block for block in packed)
    return b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + framed
