"""Who may ask, and how often: settings, keys and rates, over real HTTP where HTTP says it."""

import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.__main__ import options
from api.errors import Forbidden, TooMany
from api.middleware.auth import Bucket, Guard, keys_of
from infra.config import Settings
from infra.errors import ConfigError
from tests.processes import Pipeline, settings_for, wait_until
from tests.service import INFER, KEY, QUESTION, Service, serving

OTHER = "another-key-of-the-file"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Service]:
    """The service with two keys, one of them in a file, and 3 requests/s for each."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text(f"\n{OTHER}\n")
    env = {"PETAL_API_KEYS": KEY, "PETAL_API_KEYS_FILE": str(folder / "keys")}
    with serving(folder, artifact, {**env, "PETAL_API_RATE": "3"}, broker=False) as running:
        yield running


def test_without_a_key_nothing_is_told_but_health_and_documents(guarded: Service) -> None:
    for authorization in ("", "Bearer", f"Basic {KEY}", f"Bearer {KEY[:-1]}", f"Bearer {KEY}x"):
        for method, path in (("POST", INFER), ("GET", "/v2"), ("GET", "/nowhere")):
            reply = guarded.call(method, path, QUESTION, authorization=authorization)
            assert reply.status == 401
            assert reply.headers["www-authenticate"] == 'Bearer realm="petalstream"'
            assert reply.json == {
                "error": "send one of the service's keys: Authorization: Bearer KEY"
            }
    for path in ("/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"):
        for _ in range(5):  # no rate holds for them
            assert guarded.call("GET", path).status == 200


def test_each_key_has_a_rate_of_its_own(guarded: Service) -> None:
    for key in (KEY, OTHER):
        replies = [
            guarded.call("POST", INFER, QUESTION, authorization=f"Bearer {key}") for _ in range(8)
        ]
        assert [r.status for r in replies[:3]] == [200] * 3
        refused = [r for r in replies if r.status != 200]
        assert {r.status for r in refused} == {429}
        assert refused[0].headers["retry-after"] == "1"
        assert refused[0].json == {"error": "more than 3 requests per second; wait 1 s"}


def test_the_command_line_sends_its_key(guarded: Service) -> None:
    values = ("5.1", "3.5", "1.4", "0.2")
    line = " ".join(values) + "\n"
    refused = guarded.pipeline.run("ask", "--via", "rest", stdin=line)
    assert refused.returncode == os.EX_DATAERR
    assert refused.stderr == (
        "petal: the service requires an API key; set PETAL_API_KEY to a valid one (HTTP 401)\n"
    )

    def answered() -> bool:
        guarded.pipeline.env["PETAL_API_KEY"] = OTHER
        done = guarded.pipeline.run("ask", "--via", "rest", stdin=line)
        del guarded.pipeline.env["PETAL_API_KEY"]
        return done.returncode == 0 and "setosa" in done.stdout

    wait_until(answered, 20, "an answer within the key's rate")


def test_every_answer_carries_the_headers_of_safety(guarded: Service) -> None:
    key = {"authorization": f"Bearer {KEY}"}
    for reply in (guarded.call("GET", "/docs"), guarded.call("GET", "/v2/models/iris", **key),
                  guarded.call("GET", "/v2")):  # fmt: skip
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert "server" not in reply.headers


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"api_host": "0.0.0.0"},
            "PETAL_API_HOST=0.0.0.0 can be reached from elsewhere: set PETAL_API_KEYS or "
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
            "set both of PETAL_API_TLS_CERTIFICATE and PETAL_API_TLS_KEY, or none",
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


def test_a_start_that_is_not_safe_ends_with_one_line_and_78(shell: Pipeline) -> None:
    shell.env["PETAL_API_HOST"] = "0.0.0.0"
    process = shell.start("python", "-m", "api")
    wait_until(lambda: process.exit_code is not None, 30, "the service ends")
    assert (process.exit_code, process.output.count("\n")) == (78, 1)
    assert process.output.startswith("petalstream: PETAL_API_HOST=0.0.0.0 can be reached")


def test_keys_come_from_both_settings(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{OTHER}\n\n")
    settings = Settings(api_keys=f" {KEY} ,", api_keys_file=tmp_path / "keys")
    assert keys_of(settings) == (KEY.encode(), OTHER.encode())
    assert keys_of(Settings()) == ()


@pytest.mark.parametrize(
    ("server", "host", "passes"),
    [
        (("127.0.0.1", 80), b"127.0.0.1:80", True),
        (("127.0.0.1", 80), b"localhost", True),
        (("::1", 80), b"[::1]:80", True),
        (("::1", 80), b"[::1]", True),
        (("/run/petal.sock", None), b"", True),
        (("127.0.0.1", 80), b"rebound.example", False),
        (("127.0.0.1", 80), b"localhost.example:80", False),
        (("192.0.2.1", 80), b"127.0.0.1", False),
    ],
)
def test_without_keys_only_this_machine_may_ask(
    server: tuple[str, int | None], host: bytes, passes: bool
) -> None:
    scope = {"type": "http", "path": "/v2", "server": server, "headers": [(b"host", host)]}
    try:
        Guard([], 0).check(scope)
    except Forbidden:
        assert not passes
    else:
        assert passes


@pytest.fixture
def plain(tmp_path: Path, artifact: Path) -> Iterator[Service]:
    """Plain uvicorn, for whose --host the service cannot answer."""
    with Pipeline(tmp_path, settings_for(tmp_path, artifact)) as p:
        p.api("api.app:app", "--host", "0.0.0.0").wait_for("Uvicorn running")
        yield Service(p, int(p.env["PETAL_API_PORT"]))


def test_plain_uvicorn_refuses_who_comes_from_elsewhere(plain: Service) -> None:
    assert plain.call("GET", "/v2").status == 200
    refused = plain.call("GET", "/v2", host="petal.example")
    assert (refused.status, refused.json) == (
        403, {"error": "without PETAL_API_KEYS only this machine may ask"},
    )  # fmt: skip
    assert plain.call("GET", "/v2/health/live", host="petal.example").status == 200


def test_a_bucket_gives_its_rate_and_says_when() -> None:
    bucket = Bucket(0.5, 100.0)
    assert [bucket.take(now) for now in (100.0, 100.0, 101.0, 102.0)] == [0.0, 2.0, 1.0, 0.0]
    assert [bucket.take(now) for now in (1000.0, 1000.0)] == [0.0, 2.0]


def test_without_keys_the_rate_holds_for_all_together() -> None:
    scope: dict[str, Any] = {"path": "/v2", "server": None, "headers": []}
    one = Guard([], 1)
    one.check(scope)
    with pytest.raises(TooMany):
        one.check(scope)


def test_tls_is_served_with_a_certificate(
    tmp_path: Path, artifact: Path, certificate_and_key: tuple[Path, Path]
) -> None:
    certificate, key = certificate_and_key
    env = {"PETAL_API_TLS_CERTIFICATE": str(certificate), "PETAL_API_TLS_KEY": str(key)}
    trust = ssl.create_default_context(cafile=str(certificate))
    with serving(tmp_path, artifact, env, broker=False, tls=trust) as secure:
        assert secure.call("POST", INFER, QUESTION).json["model_name"] == "iris"


@pytest.mark.parametrize("of_key", [b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_key_that_is_none_is_refused_before_anything_is_served(
    certificate_and_key: tuple[Path, Path], of_key: bytes
) -> None:
    certificate, key = certificate_and_key
    assert options(Settings(api_tls_certificate=certificate, api_tls_key=key))["ssl_keyfile"] == key
    key.write_bytes(of_key)
    with pytest.raises(ConfigError, match="are not a certificate and its key"):
        options(Settings(api_tls_certificate=certificate, api_tls_key=key))


def test_an_address_may_stand_in_brackets() -> None:
    assert options(Settings(api_host="[::1]"))["host"] == "::1"
