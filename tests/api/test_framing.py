"""Where a request ends, on the wire: offers of other protocols, lengths, chunks, closes."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from api.body import MAX_BODY
from tests.processes import Pipeline, settings_for
from tests.service import INFER, QUESTION, Service, read_until, received, serving

ROW = [5.1, 3.5, 1.4, 0.2]
TASK = json.dumps({"X": [ROW]}).encode()
QUESTION_BODY = json.dumps(QUESTION).encode()
DOORS = {
    "infer": (INFER, "application/json", QUESTION_BODY, 200, b'"model_name":"iris"'),
    "task": ("/tasks", "application/json", TASK, 202, b'"offset":'),
    "lines": ("/tasks", "application/jsonl", TASK + b"\n", 200, b'"offset":'),
    "index": ("/v2/repository/index", "application/json", b'{"ready":true}', 200, b'"iris"'),
}
OFFERS = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAQA\r\n",
    "websocket": b"Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n",
    "several": b"upgrade: TLS/1.0\r\nUPGRADE: foo/2, h2c\r\nconnection: keep-alive\r\n"
    b"connection: UPGRADE\r\n",
    "unknown": b"Connection: upgrade\r\nUpgrade: \xe9\r\n",
}
SECONDS = 2.0  # the service's patience with a body
LIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Service]:
    env = {"PETAL_API_RECEIVE_TIMEOUT": str(SECONDS)}
    with serving(tmp_path_factory.mktemp("framing"), artifact, env) as running:
        yield running


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Service]:
    """Plain uvicorn, without the limits."""
    folder = tmp_path_factory.mktemp("plain")
    with Pipeline(folder, settings_for(folder, artifact)) as p:
        p.broker()
        p.api()
        yield Service(p, int(p.env["PETAL_API_PORT"]))


def whole(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length: %d\r\n" % len(body), body


def chunked(body: bytes) -> tuple[bytes, bytes]:
    half = len(body) // 2
    parts = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:half], body[half:]))
    return b"transfer-encoding: chunked\r\n", parts + b"0\r\n\r\n"


Frame = Callable[[bytes], tuple[bytes, bytes]]


def head(path: str, kind: str, *fields: bytes) -> bytes:
    begin = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n"
    return begin.encode() + b"".join(fields) + b"\r\n"


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def error(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["error"])


def exchange(service: Service, *writes: bytes) -> bytes:
    """All that comes after these writes, each of which is read by itself."""
    with service.connect() as connection:
        for n, data in enumerate(writes):
            if n:
                time.sleep(0.05)  # nothing tells when the service has read a part
            connection.sendall(data)
        return received(connection)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("frame", [whole, chunked])
@pytest.mark.parametrize("apart", [False, True])
def test_an_offer_of_another_protocol_is_ignored_and_the_body_is_read(
    service: Service, door: str, offer: str, frame: Frame, apart: bool
) -> None:
    path, kind, body, expected, part = DOORS[door]
    length, framed = frame(body)
    begin = head(path, kind, OFFERS[offer], length)
    next_one = LIVE + b"connection: close\r\n\r\n"
    middle = len(begin) // 2
    writes = (
        (begin[:middle], begin[middle:], framed[:9], framed[9:] + next_one)
        if apart
        else (begin + framed + next_one,)
    )
    first, _, second = exchange(service, *writes).rpartition(b"HTTP/1.1 ")
    assert (status(first), part in first) == (expected, True)
    assert second.endswith(b'{"live":true}')


def test_offers_may_follow_each_other_on_one_connection(service: Service) -> None:
    request = LIVE + OFFERS["h2c"] + b"\r\n"
    post = head("/tasks", "application/json", OFFERS["websocket"], *whole(TASK)[:1]) + TASK
    last = LIVE + OFFERS["h2c"].replace(b"Upgrade,", b"close, Upgrade,") + b"\r\n"
    answer = exchange(service, request * 5 + post + last)
    statuses = [status(part) for part in answer.split(b"HTTP/1.1")[1:]]
    assert statuses == [200] * 5 + [202, 200]
    assert b"connection: close" in answer.lower()


def test_a_client_that_offers_and_waits_for_100_is_told_to_go_on(service: Service) -> None:
    begin = head("/tasks", "application/json", OFFERS["h2c"], b"expect: 100-continue\r\n",
                 whole(TASK)[0])  # fmt: skip
    with service.connect() as connection:
        connection.sendall(begin)
        assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(TASK)
        assert status(read_until(connection, b"}")) == 202


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("frame", [whole, chunked])
def test_without_a_body_that_was_announced_plain_uvicorn_answers_no_success_and_closes(
    plain: Service, door: str, frame: Frame
) -> None:
    path, kind, body, _, _ = DOORS[door]
    length, framed = frame(body)
    answer = exchange(plain, head(path, kind, OFFERS["h2c"], length), framed)
    assert (status(answer), answer.count(b"HTTP/1.1 ")) == (400, 1)


def test_a_body_that_does_not_arrive_is_no_success(service: Service) -> None:
    with ExitStack() as stack:
        waiting = []
        for door, (path, kind, body, _, _) in DOORS.items():
            for sent in (b"", b"{"):
                connection = stack.enter_context(service.connect())
                connection.sendall(head(path, kind, whole(body)[0]) + sent)
                waiting.append((door, sent, connection))
        for door, sent, connection in waiting:
            if (door, sent) == ("lines", b"{"):  # its answer has begun
                expected = b'{"line":1,"status":408,"error":"the next line did not come within'
                assert expected in read_until(connection, b"0\r\n\r\n")
            else:
                assert status(received(connection)) == 408, (door, sent)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (b"content-length: 5\r\ntransfer-encoding: chunked\r\n", "not an HTTP request"),
        (b"transfer-encoding: chunked\r\ncontent-length: 5\r\n", "not an HTTP request"),
        (b"content-length: 5\r\ncontent-length: 5\r\n", "not an HTTP request"),
        (b"content-length: 5\r\ncontent-length: 6\r\n", "not an HTTP request"),
        (b"content-length: 5, 5\r\n", "not an HTTP request"),
        (b"content-length: +5\r\n", "not an HTTP request"),
        (b"content-length: 0x5\r\n", "not an HTTP request"),
        (b"content-length:\r\n", "not an HTTP request"),
        (b"content-length : 5\r\n", "not an HTTP request"),
        (b"transfer-encoding: xchunked\r\n", "Transfer-Encoding can only be chunked"),
        (b"transfer-encoding: identity\r\n", "Transfer-Encoding can only be chunked"),
        (b"transfer-encoding: gzip, chunked\r\n", "Transfer-Encoding can only be chunked"),
        (b"transfer-encoding: chunked, chunked\r\n", "not an HTTP request"),
        (b"transfer-encoding: \x0bchunked\r\n", "not an HTTP request"),
        (b"x: a\r\n b\r\n", "not an HTTP request"),
        (b"x: a\nb: c\r\n", "not an HTTP request"),
        (b"x: a\rb: c\r\n", "not an HTTP request"),
        (b"x: a\0b\r\n", "not an HTTP request"),
        (b"host: example.org\r\n", "the request has several Host headers"),
    ],
)
@pytest.mark.parametrize("offer", [b"", OFFERS["h2c"]])
def test_a_head_that_servers_may_read_differently_is_refused(
    service: Service, fields: bytes, sentence: str, offer: bytes
) -> None:
    smuggled = LIVE + b"\r\n"
    answer = exchange(service, head("/tasks", "application/json", offer, fields) + smuggled)
    assert (status(answer), answer.count(b"HTTP/1.1 "), error(answer)) == (400, 1, sentence)


@pytest.mark.parametrize(
    ("request_line", "fields", "expected", "sentence"),
    [
        (b"POST /tasks HTTP/1.0", chunked(TASK)[0], 400, "HTTP/1.0 has no Transfer-Encoding"),
        (b"GET /v2 HTTP/2.0", b"", 505, "send HTTP/1.1"),
        (b"GET /v2", b"", 505, "send HTTP/1.1"),
        (b"CONNECT localhost:80 HTTP/1.1", b"", 400,
         "this is no proxy: CONNECT has no meaning here"),
        (b"GET /v2 HTTP/1.3", b"", 400, "not an HTTP request"),
    ],
)  # fmt: skip
def test_other_versions_and_proxies_are_refused(
    service: Service, request_line: bytes, fields: bytes, expected: int, sentence: str
) -> None:
    begin = request_line + b"\r\nhost: localhost\r\n" + fields + b"\r\n"
    answer = exchange(service, begin + chunked(TASK)[1])
    assert (status(answer), answer.count(b"HTTP/1.1 "), error(answer)) == (expected, 1, sentence)


BAD_CHUNKS = [b"xyz\r\n", b"+2\r\n{}\r\n", b"2 \r\n{}\r\n", b"2\n{}\n", b"1\r\n{}\r\n",
              b"f" * 17 + b"\r\n"]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_CHUNKS)
@pytest.mark.parametrize("door", DOORS)
def test_a_chunk_that_cannot_be_read_is_refused_at_once(
    service: Service, door: str, bad: bytes
) -> None:
    path, kind, body, _, _ = DOORS[door]
    good = b"%x\r\n%b\r\n" % (len(body), body)
    start = time.monotonic()
    for writes in ((bad,), (good + bad,), (good, bad)):
        begin = head(path, kind, b"transfer-encoding: chunked\r\n")
        answer = exchange(service, begin + writes[0], *writes[1:])
        if status(answer) == 200:
            assert door == "lines"
            assert b'"status":400,"error":"the chunks of the body cannot be read"}' in answer
        else:
            assert (status(answer), error(answer)) == (400, "the chunks of the body cannot be read")
        assert answer.count(b"HTTP/1.1 ") == 1
    assert time.monotonic() - start < SECONDS


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("server", ["service", "plain"])
def test_a_body_above_the_limit_gets_its_answer_and_a_close_at_once(
    request: pytest.FixtureRequest, server: str, door: str
) -> None:
    running: Service = request.getfixturevalue(server)
    path, kind, _, _, _ = DOORS[door]
    large = b"x" * (4 * MAX_BODY)
    for length, sent in (whole(large), (b"content-length: 99999999999\r\n", b""), chunked(large)):
        if door == "lines" and not (sent and server == "service"):
            continue  # it answers what it reads; plain uvicorn does not close
        start = time.monotonic()
        with running.connect() as connection:
            connection.sendall(head(path, kind, length))
            sending = threading.Thread(target=send_what_goes, args=(connection, sent))
            sending.start()
            answer = received(connection)
            sending.join()
        if status(answer) == 200:
            assert door == "lines"
            assert b'"status":413,"error":"the line is larger than 1,048,576 bytes"}' in answer
        else:
            assert status(answer) == 413
            assert b"\r\nconnection: close\r\n" in answer.lower()
            assert error(answer) == "the body is larger than 1,048,576 bytes"
        assert time.monotonic() - start < SECONDS + 1


def send_what_goes(connection: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        connection.sendall(data)
