"""Every codec is read, and a batch that cannot be decoded costs itself alone."""

import contextlib
import gzip
import random
from typing import Any

import cramjam
import pytest
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder

from infra.broker import batches
from infra.broker.batches import BadBatch, UndecodableBatch, decode, parse
from infra.broker.fetcher import PartitionRecords
from infra.topics import KEPT_BYTES, MAX_BATCH_BYTES, MAX_BATCH_RECORDS
from tests.infra.broker.batches import (
    ATTRIBUTES,
    COUNT,
    HEADER_BYTES,
    LAST_DELTA,
    batch,
    sealed,
    snappy_blocks,
    with_bad_header_name,
    with_codec,
    with_count,
)
from tests.infra.broker.test_fetcher import TP

PLAIN = batch(40, 3)
BODY = PLAIN[HEADER_BYTES:]
PACKED = {
    "gzip": (1, gzip.compress(BODY)),
    "gzip in two members": (1, gzip.compress(BODY[:50]) + gzip.compress(BODY[50:])),
    "snappy": (2, bytes(cramjam.snappy.compress_raw(BODY))),
    "snappy of Java": (2, snappy_blocks(BODY)),
    "lz4": (3, bytes(cramjam.lz4.compress(BODY))),
    "zstd": (4, bytes(cramjam.zstd.compress(BODY))),
}
ZEROS = b"\0" * 64_000_000


def read(data: bytes) -> list[tuple[int, bytes | None]]:
    frame = memoryview(data)
    return [(r.offset, r.value) for r in decode(frame, parse(frame))[0]]


def reason(data: bytes) -> str:
    with pytest.raises(BadBatch) as bad:
        read(data)
    return str(bad.value)


@pytest.mark.parametrize("name", PACKED)
def test_each_codec_gives_the_records(name: str) -> None:
    assert read(with_codec(PLAIN, *PACKED[name])) == [(40, b"v40"), (41, b"v41"), (42, b"v42")]


@pytest.mark.parametrize("name", PACKED)
def test_compressed_data_that_ends_too_early_or_goes_on_is_refused(name: str) -> None:
    codec, body = PACKED[name]
    for wrong in (body[:-5], body + b"more than that", b"", b"\xff" * 40):
        assert reason(with_codec(PLAIN, codec, wrong))


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_an_unknown_codec_is_named(codec: int) -> None:
    assert reason(with_codec(PLAIN, codec)) == f"it has the unknown compression codec {codec}"


@pytest.mark.parametrize(
    ("codec", "body"),
    [
        (1, gzip.compress(ZEROS, 1)),
        (1, gzip.compress(ZEROS[:30_000_000], 1) * 2),
        (2, bytes(cramjam.snappy.compress_raw(ZEROS))),
        (2, snappy_blocks(ZEROS[:40_000_000])),
        (2, b"\xff\xff\xff\xff\x0f" + b"x" * 100),  # it claims 4 GB
        (3, bytes(cramjam.lz4.compress(ZEROS))),
        (4, bytes(cramjam.zstd.compress(ZEROS))),
    ],
    ids=[
        "gzip",
        "gzip in members",
        "snappy",
        "snappy of Java",
        "snappy by its claim",
        "lz4",
        "zstd",
    ],
)
def test_decompression_ends_at_its_limit(codec: int, body: bytes) -> None:
    assert reason(with_codec(PLAIN, codec, body)) == (
        f"it has over {MAX_BATCH_BYTES:,} bytes after decompression, the limit"
    )


def test_what_is_just_below_the_limit_is_read() -> None:
    value = b"0" * (MAX_BATCH_BYTES - 200)
    assert [len(v or b"") for _, v in read(batch(7, 1, codec=4, value=value))] == [len(value)]


def test_a_batch_of_too_many_records_is_refused_before_they_are_made() -> None:
    many = with_count(with_codec(PLAIN, *PACKED["zstd"]), MAX_BATCH_RECORDS + 1)
    assert reason(many) == "it has 250,001 records, the limit is 250,000"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (PLAIN[:-1], "it is cut off after"),
        (PLAIN[:5], "it is cut off after 5 bytes"),
        (sealed(PLAIN[:40]), "its 40 bytes are in no known format"),
        (PLAIN[:16] + b"\3" + PLAIN[17:], "in no known format"),
        (PLAIN[:-1] + b"!", "its checksum does not match: it is damaged"),
        (with_bad_header_name(40, 3), "a record has a header name that is not UTF-8"),
        (with_count(PLAIN, 2), "its records cannot be read: "),
        (with_count(PLAIN, 4), "its records cannot be read: "),
        (with_count(with_codec(PLAIN, *PACKED["gzip"]), -1), "it has -1 records"),
        (sealed(PLAIN[:-4]), "its records cannot be read: "),
    ],
)
def test_the_reason_says_what_is_wrong(data: bytes, told: str) -> None:
    assert told in reason(data)


def test_records_with_offsets_of_other_batches_are_refused() -> None:
    short = bytearray(PLAIN)
    short[LAST_DELTA + 3] = 1
    assert reason(sealed(short)) == "the offsets of its records are not its own"


@pytest.mark.parametrize("codec", [0, 1, 2, 3])
def test_messages_of_the_format_before_are_read(codec: int) -> None:
    builder = LegacyRecordBatchBuilder(1, codec, 10_000)
    for n in range(3 if codec else 1):
        builder.append(n, 1_763_920_000_000, b"k", b"v%d" % n)
    assert read(bytes(builder.build())) == [(n, b"v%d" % n) for n in range(3 if codec else 1)]


def test_a_message_of_the_format_before_is_decompressed_within_the_limit() -> None:
    builder = LegacyRecordBatchBuilder(1, 1, 2 * MAX_BATCH_BYTES)
    builder.append(0, 1_763_920_000_000, None, b"\0" * (MAX_BATCH_BYTES + 1))
    assert "bytes after decompression" in reason(bytes(builder.build()))


def test_what_is_set_aside_is_known_by_its_offsets_and_its_bytes() -> None:
    data = sealed(batch(40, 3, value=b"x" * 100_000)[:-1])
    bad = batches.set_aside(TP, memoryview(data), "why", 41, None, 50)
    assert (bad.topic, bad.partition) == TP
    assert (bad.first, bad.last, bad.offset, bad.reason) == (40, 42, 42, "why")
    assert (bad.head, bad.size) == (data[:KEPT_BYTES], len(data))
    assert (bad.key, bad.value, tuple(bad.headers)) == (None, None, ())


def read_all(stored: list[tuple[int, bytes]], end: int) -> tuple[list[int], list[int]]:
    """Fetch the batches (last offset, bytes) of a log until its end, as a consumer does.

    Returns the offsets that came as records, and those that came in undecodable batches.
    """
    good: list[int] = []
    bad: list[int] = []
    position = 0
    for _ in range(100):
        data = b"".join(data for last, data in stored if last >= position)
        if not data:
            assert position == end
            return good, bad
        part: Any = PartitionRecords(TP, batches.Frames(data), [], position, None, None, True, 1)
        part.end = end
        more = True
        while more:
            taken, more = part.take(2)
            for record in taken:
                if type(record) is UndecodableBatch:
                    assert record.last >= position
                    bad += range(max(record.first, position), record.last + 1)
                else:
                    good.append(record.offset)
            assert part.next_fetch_offset >= position
            position = part.next_fetch_offset
    raise AssertionError("the end is never reached")


DAMAGED = {"plain": batch(4, 3), "gzip": batch(4, 3, codec=1), "zstd": batch(4, 3, codec=4)}


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("is_last", [True, False])
def test_a_bit_that_flips_costs_only_its_batch(kind: str, is_last: bool) -> None:
    before, hurt, after = (3, batch(0, 4)), DAMAGED[kind], (9, batch(7, 3))
    end = 7 if is_last else 10
    # Not the base offset's lower bytes: the broker itself finds the batch by them.
    for bit in [*range(8 * 5), *range(8 * 8, 8 * len(hurt))]:
        flipped = bytearray(hurt)
        flipped[bit // 8] ^= 1 << bit % 8
        stored = [before, (6, bytes(flipped))] + ([] if is_last else [after])
        good, bad = read_all(stored, end)
        # A flip may be where nothing looks, as in the leader's epoch: then the records are read.
        assert bad in ([4, 5, 6], []), bit
        assert sorted(good + bad) == list(range(end)), bit


def test_bytes_of_any_kind_are_set_aside_and_never_raise() -> None:
    rng = random.Random(3)
    for _ in range(3000):
        body = bytearray(PLAIN[:HEADER_BYTES] + rng.randbytes(rng.randrange(60)))
        body[ATTRIBUTES] = rng.randrange(8)
        body[COUNT : COUNT + 4] = rng.choice([1, 3, 100]).to_bytes(4, "big")
        with contextlib.suppress(BadBatch):
            read(sealed(body))
