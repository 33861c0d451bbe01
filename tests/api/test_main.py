"""`python -m api`: settings that are not safe, TLS."""

import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from api.__main__ import options
from infra.config import Settings
from infra.errors import ConfigError
from tests.processes import Pipeline, wait_until
from tests.service import INFER, QUESTION, serving


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"api_host": "0.0.0.0"},
            "PETAL_API_HOST=0.0.0.0 can be reached from other machines: set PETAL_API_KEYS or "
            "PETAL_API_KEYS_FILE",
        ),
        (
            {"api_keys": "short-secret"},
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
    assert options(Settings(api_host="[::1]"))["host"] == "::1"
