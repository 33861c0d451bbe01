"""Slow clients and endless heads, on the wire."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.protocol import MAX_HEAD
from tests.service import INFER, QUESTION, Service, received, serving

SECONDS = 1.0  # the service's patience with a head or a body
SOONEST = SECONDS - 0.01  # uvloop counts time in whole milliseconds
LINE = b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Service]:
    env = {"PETAL_API_RECEIVE_TIMEOUT": str(SECONDS)}
    folder = tmp_path_factory.mktemp("protocol")
    with serving(folder, artifact, env, broker=False) as running:
        yield running


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def dribble(service: Service, begin: bytes, drop: bytes, most: float = 8.0) -> tuple[bytes, float]:
    """Send `begin`, then a `drop` every tenth of a second; the answer, and when it closed."""
    start = time.monotonic()
    with service.connect() as connection:
        connection.sendall(begin)
        connection.settimeout(0.1)
        answer = b""
        while time.monotonic() - start < most:
            try:
                if not (part := connection.recv(65_536)):
                    return answer, time.monotonic() - start
                answer += part
            except TimeoutError:
                pass
            except ConnectionError:
                return answer, time.monotonic() - start
            try:
                connection.sendall(drop)
            except OSError:
                return answer, time.monotonic() - start
    raise AssertionError(f"still open after {most:g} s, having answered {answer!r}")


def test_a_head_that_comes_slowly_is_refused_in_time(service: Service) -> None:
    answer, seconds = dribble(service, LINE, b"x")
    assert (status(answer), body(answer)) == (
        408, b'{"error":"the request\'s head did not come in time"}',
    )  # fmt: skip
    assert SOONEST <= seconds < SECONDS + 3


@pytest.mark.parametrize("drop", [b"", b"\r\n"])
def test_a_connection_that_asks_nothing_is_closed(service: Service, drop: bytes) -> None:
    answer, seconds = dribble(service, b"", drop)
    assert answer == b""
    assert SOONEST <= seconds < SECONDS + 3


def test_a_second_request_has_the_same_limits(service: Service) -> None:
    answer, seconds = dribble(service, LINE + b"\r\n" + LINE, b"x")
    first, _, second = answer.partition(b'{"live":true}')
    assert (status(first), status(second)) == (200, 408)
    assert seconds < SECONDS + 3


def test_a_body_that_comes_slowly_is_refused_in_time(service: Service) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10000\r\n\r\n"
    answer, seconds = dribble(service, head.encode(), b" ")
    assert (status(answer), body(answer)) == (
        408, b'{"error":"the body did not come within 1 s"}',
    )  # fmt: skip
    assert SOONEST <= seconds < SECONDS + 3


def test_a_body_that_nobody_reads_does_not_hold_the_connection(service: Service) -> None:
    head = b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    answer, seconds = dribble(service, head, b"1\r\nx\r\n")
    assert status(answer) == 404
    assert seconds < SECONDS + 3


@pytest.mark.parametrize("complete", [b"", b"\r\n\r\n"])
@pytest.mark.parametrize("size", [MAX_HEAD, 100_000, 1_000_000])
def test_a_head_above_the_limit_is_refused(service: Service, size: int, complete: bytes) -> None:
    with service.connect() as connection:
        try:
            connection.sendall(LINE + b"x: " + b"y" * size + complete)
            answer = received(connection)
        except ConnectionError:  # what was still being sent met a closed connection
            assert size > MAX_HEAD
            return
    assert (status(answer), body(answer)) == (
        431, b'{"error":"the request\'s head is larger than 16,384 bytes"}',
    )  # fmt: skip


def test_a_large_body_is_no_large_head(service: Service) -> None:
    row = [[5.1, 3.5, 1.4, 0.2]] * 10_000
    tensor = {"name": "X", "shape": [10_000, 4], "datatype": "FP64", "data": row}
    assert service.call("POST", INFER, {"inputs": [tensor]}).status == 200
    assert service.call("POST", INFER, QUESTION).status == 200


def test_what_is_no_http_is_refused_as_json(service: Service) -> None:
    with service.connect() as connection:
        connection.sendall(b"hello\r\n\r\n")
        answer = received(connection)
    assert (status(answer), body(answer)) == (400, b'{"error":"not an HTTP request"}')
