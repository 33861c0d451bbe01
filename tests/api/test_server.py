"""Slow clients and endless heads, on the wire."""

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from api.server import MAX_HEAD_BYTES
from tests.processes import Pipeline, settings_for, wait_until
from tests.service import INFER, QUESTION, Service, read_until, received, serving

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
def test_a_silent_connection_is_closed(service: Service, drop: bytes) -> None:
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
@pytest.mark.parametrize("size", [MAX_HEAD_BYTES, 100_000, 1_000_000])
def test_a_head_above_the_limit_is_refused(service: Service, size: int, complete: bytes) -> None:
    with service.connect() as connection:
        try:
            connection.sendall(LINE + b"x: " + b"y" * size + complete)
            answer = received(connection)
        except ConnectionError:  # what was still being sent met a closed connection
            assert size > MAX_HEAD_BYTES
            return
    assert (status(answer), body(answer)) == (
        431, b'{"error":"the request\'s head is larger than 16,384 bytes"}',
    )  # fmt: skip


def test_a_large_body_does_not_count_as_a_head(service: Service) -> None:
    row = [[5.1, 3.5, 1.4, 0.2]] * 10_000
    tensor = {"name": "X", "shape": [10_000, 4], "datatype": "FP64", "data": row}
    assert service.call("POST", INFER, {"inputs": [tensor]}).status == 200
    assert service.call("POST", INFER, QUESTION).status == 200


@pytest.mark.parametrize("apart", [True, False])
def test_a_large_body_does_not_count_for_a_head_in_parts_after_it(
    service: Service, apart: bool
) -> None:
    rows = [[5.1, 3.5, 1.4, 0.2]] * 5000
    tensor = {"name": "X", "shape": [5000, 4], "datatype": "FP64", "data": rows}
    sent = json.dumps({"inputs": [tensor]}).encode()
    assert len(sent) > 5 * MAX_HEAD_BYTES
    head = f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(sent)}\r\n\r\n"
    with service.connect() as connection:
        connection.sendall(head.encode())
        if apart:
            time.sleep(SECONDS / 10)  # so that the body is read by itself
        connection.sendall(sent + LINE[:20])
        read_until(connection, b"]}]}")
        connection.sendall(LINE[20:40])
        time.sleep(SECONDS / 5)  # so that it is read by itself
        connection.sendall(LINE[40:] + b"connection: close\r\n\r\n")
        assert status(received(connection)) == 200


def in_progress(service: Service) -> float:
    """Open requests, without the one for this number."""
    text = service.call("GET", "/metrics").text
    [line] = [
        line for line in text.splitlines()
        if line.startswith("rest_server_requests_in_progress ")
    ]  # fmt: skip
    return float(line.split()[1]) - 1


STREAM = b"GET /results HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "path", [b"/results", b"/tasks/0b7e9b8e-3b0a-4c39-9d3b-6d4a3d6a2d11/events"]
)
def test_a_head_request_for_a_stream_opens_no_stream(service: Service, path: bytes) -> None:
    with service.connect() as connection:
        for _ in range(2):
            connection.sendall(STREAM.replace(b"GET /results", b"HEAD " + path))
            assert b"text/event-stream" in read_until(connection, b"\r\n\r\n")
        connection.sendall(LINE + b"\r\n")
        assert b'{"live":true}' in read_until(connection, b"}")
    wait_until(lambda: in_progress(service) == 0, 5, "no stream is open")


@pytest.mark.parametrize("at_once", [True, False])
def test_a_stream_ends_with_its_client_even_if_requests_are_queued_behind_it(
    service: Service, at_once: bool
) -> None:
    with service.connect() as connection:
        if at_once:
            connection.sendall(STREAM + LINE + b"\r\n")
            read_until(connection, b"\r\n\r\n")
        else:
            connection.sendall(STREAM)
            read_until(connection, b"\r\n\r\n")
            connection.sendall(LINE + b"\r\n")
        assert in_progress(service) == 1
    wait_until(lambda: in_progress(service) == 0, 5, "the stream is closed")  # a beat takes 15 s
    assert "Traceback" not in service.pipeline.processes[-1].output


def test_only_a_few_requests_are_read_behind_a_stream(service: Service) -> None:
    more = (LINE + b"\r\n") * 10_000
    with service.connect() as connection:
        connection.sendall(STREAM)
        read_until(connection, b"\r\n\r\n")
        connection.settimeout(1)
        with pytest.raises(TimeoutError):
            connection.sendall(more * 200)  # 94 MB, more than sockets hold


@pytest.mark.parametrize("behind", [b"garbage\r\n\r\n", LINE + b"x: " + b"y" * 20_000])
def test_a_refusal_is_not_written_into_the_response_before_it(
    service: Service, behind: bytes
) -> None:
    sent = json.dumps(QUESTION).encode()
    head = f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(sent)}\r\n\r\n"
    with service.connect() as connection:
        connection.sendall(head.encode() + sent + behind)
        first, _, second = received(connection).partition(b"}HTTP/1.1 ")
    assert status(first) == 200
    assert json.loads(body(first + b"}" * bool(second)))["model_name"] == "iris"
    with service.connect() as connection:
        connection.sendall(STREAM)
        answer = read_until(connection, b"stored\n\n")
        connection.sendall(behind)
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):  # nothing is written into the stream
            connection.recv(65_536)
    assert (status(answer), answer.count(b"HTTP/1.1")) == (200, 1)


@pytest.mark.parametrize("begin", [b"0\r\n", b"1;"])
@pytest.mark.parametrize("line", [b"x: " + b"y" * 1000 + b"\r\n", b"y" * 1000])
def test_trailers_and_extensions_of_chunks_have_a_limit(
    service: Service, begin: bytes, line: bytes
) -> None:
    process = psutil.Process(service.pipeline.processes[-1].pid)
    before = process.memory_info().rss
    head = f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    with service.connect() as connection:
        connection.sendall(head.encode() + b"2\r\n{}\r\n" + begin)
        connection.settimeout(2)
        with pytest.raises(
            (ConnectionError, TimeoutError)
        ):  # it is closed, or nothing more is read
            connection.sendall(line * 100_000)
    assert process.memory_info().rss < before + 20_000_000


def test_a_refusal_before_a_request_is_counted_and_marked(service: Service) -> None:
    def refused() -> int:
        text = service.call("GET", "/metrics").text
        name = 'rest_server_requests_total{method="other",path="other",status_code="400"} '
        return int(float((text.partition(name)[2] or "0").split()[0]))

    before = refused()
    with service.connect() as connection:
        connection.sendall(b"hello\r\n\r\n")
        head = received(connection).partition(b"\r\n\r\n")[0].lower()
    assert b"\r\nx-content-type-options: nosniff" in head
    assert b"\r\ncache-control: no-store" in head
    assert b"\r\nx-request-id: " in head
    assert refused() == before + 1


def answers(service: Service) -> bool:
    try:
        return service.call("GET", "/v2/health/live").status == 200
    except OSError:
        return False


@contextmanager
def with_files(limit: str, folder: Path, artifact: Path) -> Iterator[Service]:
    """The service as a shell starts it after `ulimit`."""
    with Pipeline(folder, settings_for(folder, artifact)) as p:
        p.start("bash", "-c", f"ulimit {limit} && exec python -m api")
        service = Service(p, int(p.env["PETAL_API_PORT"]))
        wait_until(lambda: answers(service), 30, "the service answers")
        yield service


def test_connections_above_the_limit_are_refused_and_open_ones_are_answered(
    tmp_path: Path, artifact: Path
) -> None:
    with with_files("-n 128", tmp_path, artifact) as service, ExitStack() as open_ones:
        [process] = service.pipeline.processes
        first, *others = [open_ones.enter_context(service.connect()) for _ in range(200)]
        refused = received(others[-1])
        assert status(refused) == 503
        assert b"\r\nretry-after: 1\r\n" in refused
        assert body(refused) == b'{"error":"too many connections are open"}'
        first.sendall(LINE + b"\r\n")
        assert b'{"live":true}' in read_until(first, b"}")
        assert process.output.count("refused a connection: 96 are open, the limit") == 1
        for connection in others:
            connection.close()
        wait_until(lambda: answers(service), 10, "there is room again")


def test_the_limit_of_files_is_raised_as_far_as_possible(tmp_path: Path, artifact: Path) -> None:
    with with_files("-Sn 64", tmp_path, artifact) as service, ExitStack() as open_ones:
        connections = [open_ones.enter_context(service.connect()) for _ in range(100)]
        for connection in connections:
            connection.sendall(LINE + b"\r\n")
            assert b'{"live":true}' in read_until(connection, b"}")


def test_with_tls_a_silent_connection_is_closed_in_time(
    tmp_path: Path, artifact: Path, certificate_and_key: tuple[Path, Path]
) -> None:
    """Even if the client does not close its side."""
    chain, key = certificate_and_key
    env = {
        "PETAL_API_TLS_CERTIFICATE": str(chain),
        "PETAL_API_TLS_KEY": str(key),
        "PETAL_API_RECEIVE_TIMEOUT": str(SECONDS),
    }
    trust = ssl.create_default_context(cafile=str(chain))
    with serving(tmp_path, artifact, env, broker=False, tls=trust) as service:
        process = psutil.Process(service.pipeline.processes[-1].pid)
        assert service.call("GET", "/v2/health/live").status == 200
        idle = process.num_fds()
        with ExitStack() as open_ones:
            for _ in range(5):
                plain = open_ones.enter_context(service.connect())
                open_ones.enter_context(trust.wrap_socket(plain, server_hostname="127.0.0.1"))
            wait_until(lambda: process.num_fds() <= idle, 10 * SECONDS, "all are closed")


def test_bytes_that_are_not_http_get_an_error_as_json(service: Service) -> None:
    with service.connect() as connection:
        connection.sendall(b"hello\r\n\r\n")
        answer = received(connection)
    assert (status(answer), body(answer)) == (400, b'{"error":"not an HTTP request"}')
