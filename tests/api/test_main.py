"""`python -m api`: settings that are not safe, TLS."""

import errno
import os
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from api.__main__ import listeners, options
from infra.config import Settings
from infra.errors import ConfigError
from infra.process import ports
from infra.security import Secret
from tests.processes import Pipeline, Process, free_port, wait_until
from tests.service import INFER, KEY, QUESTION, received, serving


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"api_host": "0.0.0.0"},
            "PETAL_API_HOST=0.0.0.0 can be reached from other machines: set PETAL_API_KEYS or "
            "PETAL_API_KEYS_FILE",
        ),
        (
            {"api_keys": Secret("short-secret")},
            "a key of PETAL_API_KEYS or its file is shorter than 16 characters; make one: "
            "openssl rand -hex 16",
        ),
        ({"api_keys_file": Path("none")}, "PETAL_API_KEYS_FILE: none cannot be read"),
        (
            {"api_tls_key": Path("key.pem")},
            "set both PETAL_API_TLS_CERTIFICATE and PETAL_API_TLS_KEY, or neither",
        ),
        (
            {"api_tls_key": Path("key.pem"), "api_tls_certificate": Path("chain.pem")},
            "PETAL_API_TLS_CERTIFICATE: there is no file chain.pem",
        ),
    ],
)
def test_settings_that_are_not_safe_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(Settings(**settings))
    assert str(caught.value) == message


def test_a_start_that_is_not_safe_ends_with_one_line_and_its_code(shell: Pipeline) -> None:
    shell.env["PETAL_API_HOST"] = "0.0.0.0"
    process = shell.start("python", "-m", "api")
    wait_until(lambda: process.exit_code is not None, 30, "the service ends")
    assert (process.exit_code, process.output.count("\n")) == (os.EX_CONFIG, 1)
    assert process.output.startswith("petalstream: PETAL_API_HOST=0.0.0.0 can be reached")


def ended(process: Process) -> tuple[int | None, str]:
    wait_until(lambda: process.exit_code is not None, 30, "the service ends")
    return process.exit_code, process.output


def test_a_start_that_fails_ends_with_one_line_and_its_code(
    shell: Pipeline, tmp_path: Path
) -> None:
    port = shell.env["PETAL_API_PORT"]
    command = ("python", "-m", "api")
    with socket.create_server(("127.0.0.1", int(port))):
        assert ended(shell.start(*command)) == (
            os.EX_CONFIG,
            f"petalstream: another process listens on 127.0.0.1:{port}; set PETAL_API_PORT\n",
        )
    unknown = {"PETAL_API_HOST": "no-such-host.invalid", "PETAL_API_KEYS": KEY}
    assert ended(shell.start(*command, env=unknown)) == (
        os.EX_CONFIG,
        "petalstream: PETAL_API_HOST=no-such-host.invalid is no address of this machine\n",
    )
    code, output = ended(shell.start(*command, env={"PETAL_MODEL": str(tmp_path / "no.joblib")}))
    assert (code, output.count("\n")) == (os.EX_CONFIG, 1)
    assert output.startswith(f"petalstream: no model card at {tmp_path}/no.json")


def test_a_name_is_bound_at_all_its_addresses_and_not_served_before_the_start() -> None:
    port = free_port()
    sockets = listeners(Settings(api_host="localhost", api_port=port))
    try:
        assert port in {listener.getsockname()[1] for listener in sockets}
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
    finally:
        for listener in sockets:
            listener.close()


def test_a_port_that_this_account_may_not_use_is_named() -> None:
    assert ports.fault("api", "127.0.0.1", 80, OSError(errno.EACCES, "denied")) == (
        "PETAL_API_PORT=80: this account may not listen on that port"
    )


def test_a_connection_without_requests_stays_open_longer_than_a_proxys(
    tmp_path: Path, artifact: Path
) -> None:
    assert Settings().api_keep_alive > 60
    assert options(Settings())["timeout_keep_alive"] == Settings().api_keep_alive
    env = {"PETAL_API_KEEP_ALIVE": "0.5"}
    with serving(tmp_path, artifact, env, broker=False) as short, short.connect() as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        start = time.monotonic()
        assert received(connection).endswith(b'{"live":true}')
        assert 0.4 < time.monotonic() - start < 4


def test_tls_is_served_with_a_certificate(
    tmp_path: Path, artifact: Path, certificate_and_key: tuple[Path, Path]
) -> None:
    certificate, key = certificate_and_key
    env = {"PETAL_API_TLS_CERTIFICATE": str(certificate), "PETAL_API_TLS_KEY": str(key)}
    trust = ssl.create_default_context(cafile=str(certificate))
    with serving(tmp_path, artifact, env, broker=False, tls=trust) as secure:
        assert secure.call("POST", INFER, QUESTION).json["model_name"] == "iris"


@pytest.mark.parametrize("of_key", [b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_an_invalid_tls_key_is_refused_before_anything_is_served(
    certificate_and_key: tuple[Path, Path], of_key: bytes
) -> None:
    certificate, key = certificate_and_key
    assert options(Settings(api_tls_certificate=certificate, api_tls_key=key))["ssl_keyfile"] == key
    key.write_bytes(of_key)
    with pytest.raises(ConfigError, match="are not a certificate and its key"):
        options(Settings(api_tls_certificate=certificate, api_tls_key=key))


def test_an_address_may_be_in_brackets() -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port = probe.getsockname()[1]
    [listener] = listeners(Settings(api_host="[::1]", api_port=port))
    with listener:
        assert listener.getsockname()[:2] == ("::1", port)
