"""Bodies that are compressed, or begin with a byte order mark, at every door that reads one."""

import gzip
import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.body import MAX_BODY
from api.coding import PART_BYTES, Gunzip, is_gzip
from api.errors import BadRequest, WrongCoding
from tests.service import INFER, QUESTION, Service, serving

ROW = [5.1, 3.5, 1.4, 0.2]
TASK = json.dumps({"X": [ROW]}).encode()
BINARY = json.dumps(
    {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32",
                 "parameters": {"binary_data_size": 16}}]}
).encode()  # fmt: skip
DOORS: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "infer": (INFER, json.dumps(QUESTION).encode(), {}),
    "binary": (INFER, BINARY + bytes(16), {"inference_header_content_length": str(len(BINARY))}),
    "task": ("/tasks", TASK, {}),
    "lines": ("/tasks", TASK + b"\n" + TASK, {"content_type": "application/jsonl"}),
    "index": ("/v2/repository/index", b'{"ready":true}', {}),
}
BOMB = gzip.compress(b" " * 200 * MAX_BODY)
BOM = b"\xef\xbb\xbf"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("codings"), artifact) as running:
        yield running


def outcome(service: Service, door: str, body: bytes, **headers: str) -> Any:
    """The status of the answer, or of the first line that is refused, and the error."""
    path, _, usual = DOORS[door]
    reply = service.call("POST", path, body, **{**usual, **headers})
    if door == "lines" and reply.status == 200:
        answers = [json.loads(line) for line in reply.body.splitlines()]
        refused = [a for a in answers if "error" in a]
        return (refused[0]["status"], refused[0]["error"]) if refused else len(answers)
    return (reply.status, reply.json["error"]) if reply.status >= 400 else reply.status


SUCCESS = {"infer": 200, "binary": 200, "task": 202, "lines": 2, "index": 200}


@pytest.mark.parametrize("door", DOORS)
def test_a_body_may_be_compressed_by_gzip(service: Service, door: str) -> None:
    body = DOORS[door][1]
    members = gzip.compress(body[:20]) + gzip.compress(b"") + gzip.compress(body[20:])
    for sent in (gzip.compress(body), members):
        for name in ("gzip", "GZIP", " x-gzip", "identity, gzip", "utf-8,gzip,"):
            assert outcome(service, door, sent, content_encoding=name) == SUCCESS[door], name


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", ["identity", "", "UTF-8", "utf8", "Identity, utf-8", ","])
def test_these_codings_leave_a_body_as_it_is(service: Service, door: str, name: str) -> None:
    assert outcome(service, door, DOORS[door][1], content_encoding=name) == SUCCESS[door]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "name", ["br", "deflate", "zstd", "gzip, gzip", "gzip, br", "x", "gzip;q=1"]
)
def test_other_codings_are_refused_with_the_one_that_is_read(
    service: Service, door: str, name: str
) -> None:
    path, body, headers = DOORS[door]
    reply = service.call("POST", path, body, content_encoding=name, **headers)
    assert (reply.status, reply.headers["accept-encoding"]) == (415, "gzip")
    assert reply.json == {
        "error": "Content-Encoding: send the body as it is, or compressed once by gzip"
    }


@pytest.mark.parametrize("door", DOORS)
def test_a_body_that_is_not_gzip_is_refused(service: Service, door: str) -> None:
    body, packed = DOORS[door][1], gzip.compress(DOORS[door][1])
    damaged = packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]
    not_gzip = (400, "the body is not gzip: ")
    for sent, (status, begin) in {
        body: not_gzip,
        zlib.compress(body): not_gzip,
        damaged: not_gzip,
        packed + b"rest": not_gzip,
        packed[:-1]: (400, "the gzip data of the body are cut off"),
        packed[:12]: (400, "the gzip data of the body are cut off"),
    }.items():
        got = outcome(service, door, sent, content_encoding="gzip")
        assert (got[0], got[1][: len(begin)]) == (status, begin)


@pytest.mark.parametrize("door", DOORS)
def test_a_small_body_of_large_content_is_refused(service: Service, door: str) -> None:
    thing = "line" if door == "lines" else "body"
    for sent in (BOMB, gzip.compress(b"[" * (MAX_BODY + 1))):
        assert len(sent) < MAX_BODY
        assert outcome(service, door, sent, content_encoding="gzip") == (
            413, f"the {thing} is larger than 1,048,576 bytes",
        )  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_byte_order_mark_is_skipped(service: Service, door: str, packed: bool) -> None:
    _, body, headers = DOORS[door]
    if door == "binary":
        size = str(len(BINARY) + len(BOM))
        headers = {"inference_header_content_length": size}
    sent = gzip.compress(BOM + body) if packed else BOM + body
    coding = {"content_encoding": "gzip"} if packed else {}
    assert outcome(service, door, sent, **headers, **coding) == SUCCESS[door]


@pytest.mark.parametrize("door", ["infer", "task", "lines", "index"])
@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_other_encodings_of_unicode_are_named(service: Service, door: str, charset: str) -> None:
    sent = DOORS[door][1].decode().encode(charset)
    assert outcome(service, door, sent) == (400, "the body is not UTF-8")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [([], False), ([b""], False), ([b"Gzip"], True), ([b"identity", b"gzip"], True)],
)
def test_the_header_may_come_several_times(headers: list[bytes], expected: bool) -> None:
    assert is_gzip(*headers) == expected
    with pytest.raises(WrongCoding):
        is_gzip(*headers, b"gzip", b"gzip")


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_stream_is_decompressed_in_parts_of_any_size(size: int) -> None:
    text = bytes(range(256)) * 2000
    packed = gzip.compress(text[:1000]) + gzip.compress(text[1000:])
    stream = Gunzip()
    parts = [
        part for at in range(0, len(packed), size) for part in stream.parts(packed[at : at + size])
    ]
    stream.end()
    assert b"".join(parts) == text
    assert max(map(len, parts)) <= PART_BYTES
    cut = Gunzip()
    list(cut.parts(packed[:-1]))
    with pytest.raises(BadRequest, match="cut off"):
        cut.end()


def seconds_to_read(members: int) -> float:
    """CPU seconds for a body of so many empty members, the least of three attempts."""
    body, taken = gzip.compress(b"") * members, []
    for _ in range(3):
        start = time.process_time()
        assert Gunzip().whole(body, MAX_BODY) == b""
        taken.append(time.process_time() - start)
    return min(taken)


def test_a_body_of_many_members_takes_time_in_proportion_to_its_size() -> None:
    assert seconds_to_read(50_000) < 15 * seconds_to_read(10_000)
