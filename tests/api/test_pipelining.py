"""What a client sends ahead of its responses takes bounded memory, and is answered in order."""

import re
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from api.server import MAX_PIPELINED, MAX_WAITING_BYTES
from tests.processes import wait_until
from tests.service import Service, read_until, received, serving

LIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
LAST = LIVE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
TINY = b"GET /- HTTP/1.1\r\n\r\n"  # there is nothing; the page at / is no small answer
STREAM = b"GET /results HTTP/1.1\r\nhost: localhost\r\n\r\n"
MAX_GROWTH = 150_000_000  # bytes of the process, in all connections together
FLOOD_SECONDS = 2.0
HOLDERS = 500


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("pipelining"), artifact, broker=False) as running:
        yield running


def flood(connections: list[socket.socket], data: bytes, reads: bool, most: int) -> int:
    """Send as much as the service takes, at most `most` bytes or FLOOD_SECONDS; returns the sum."""
    view, positions = memoryview(data), dict.fromkeys(connections, 0)
    sent, deadline = 0, time.monotonic() + FLOOD_SECONDS
    while positions and sent < most and time.monotonic() < deadline:
        readers, writers, _ = select.select(positions if reads else (), positions, (), 0.1)
        for connection in readers:
            if not connection.recv(65_536):
                del positions[connection]
        for connection in set(writers) & set(positions):
            try:
                count = connection.send(view[positions[connection] :])
            except ConnectionError:
                del positions[connection]
                continue
            sent += count
            positions[connection] = (positions[connection] + count) % len(data)
    return sent


@pytest.mark.parametrize("count", [4, 300])
@pytest.mark.parametrize(
    ("first", "request_", "reads"),
    [(b"", TINY, False), (b"", LIVE, True), (STREAM, TINY, False)],
    ids=["nobody reads", "answers are read", "behind a stream"],
)
def test_a_flood_of_small_requests_takes_bounded_memory_and_gives_it_back(
    service: Service, count: int, first: bytes, request_: bytes, reads: bool
) -> None:
    process = psutil.Process(service.pipeline.processes[-1].pid)
    before = process.memory_info().rss
    with ExitStack() as open_ones:
        connections = [open_ones.enter_context(service.connect()) for _ in range(count)]
        for connection in connections:
            connection.sendall(first)
            connection.setblocking(False)
        flood(connections, request_ * (1_000_000 // len(request_)), reads, 72_000_000)
        assert process.memory_info().rss - before < MAX_GROWTH
    wait_until(lambda: process.memory_info().rss - before < MAX_GROWTH / 2, 10, "memory is back")
    assert service.call("GET", "/v2/health/live").status == 200


def assert_answers_in_order(service: Service, size: int, count: int) -> None:
    """Send `count` pairs of requests ahead, in parts of `size` bytes, and compare the answers."""
    body = b'{"ready": true}'
    index = b"POST /v2/repository/index HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b"
    pair = LIVE + index % (len(body), body)
    data = pair * count + LAST
    with service.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        for at in range(0, len(data), size):
            connection.sendall(data[at : at + size])
        answers = received(connection).split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [b'{"live":true}' in answer for answer in answers] == [True, False] * count + [True]
    assert all(b'"READY"' in answer for answer in answers[1::2])


@pytest.mark.parametrize("size", [1, 7, 4096, 10_000_000])
def test_each_pipelined_request_is_answered_in_its_order(service: Service, size: int) -> None:
    """Also if they come in parts of any size."""
    assert_answers_in_order(service, size, 20 * MAX_PIPELINED if size > 100 else 2 * MAX_PIPELINED)


def refused(service: Service) -> float:
    """How many connections were closed because too much waits."""
    metrics = service.call("GET", "/metrics").text
    counts = re.findall(
        r'^rest_server_requests_total\{.*status_code="503".*\} (\S+)$', metrics, re.MULTILINE
    )
    return sum(map(float, counts))


def test_who_holds_the_most_is_closed_and_not_who_comes_later(service: Service) -> None:
    """More requests wait, behind streams, than the service holds; then others come."""
    before = refused(service)
    with ExitStack() as open_ones:
        connections = [open_ones.enter_context(service.connect()) for _ in range(HOLDERS)]
        for connection in connections:
            connection.sendall(STREAM)
            connection.setblocking(False)
        data = TINY * (1_000_000 // len(TINY))

        def is_full() -> bool:
            flood(connections, data, False, 2 * MAX_WAITING_BYTES)
            return refused(service) > before

        wait_until(is_full, 30, "more waits than the service holds")
        assert_answers_in_order(service, 10_000_000, 2000)


def test_large_bodies_behind_each_other_arrive_whole(service: Service) -> None:
    body = b'{"ready": true' + b" " * 500_000 + b"}"
    head = b"POST /v2/repository/index HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
    with service.connect() as connection:
        for _ in range(4):
            connection.sendall((head % len(body) + body) * 2)
            read_until(connection, b'"READY"')
        connection.sendall(LAST)
        answers = received(connection)
    assert answers.count(b"HTTP/1.1 200 OK") >= 5
