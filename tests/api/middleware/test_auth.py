"""Who may send requests: with keys, and from this machine without keys."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.errors import Forbidden
from api.middleware.auth import Auth, route_path
from infra.access import read_keys
from infra.config import Settings
from infra.security import Secret
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


def test_without_a_key_only_health_and_documents_are_answered(guarded: Service) -> None:
    for authorization in ("", "Bearer", f"Basic {KEY}", f"Bearer {KEY[:-1]}", f"Bearer {KEY}x"):
        for method, path in (("POST", INFER), ("GET", "/v2"), ("GET", "/nowhere")):
            reply = guarded.call(method, path, QUESTION, authorization=authorization)
            assert reply.status == 401
            assert reply.headers["www-authenticate"] == 'Bearer realm="petalstream"'
            assert reply.json == {
                "error": "the service requires an API key: Authorization: Bearer KEY"
            }
    for path in ("/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"):
        for _ in range(5):  # no rate holds for them
            assert guarded.call("GET", path).status == 200


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


def test_every_response_has_the_headers_of_safety(guarded: Service) -> None:
    key = {"authorization": f"Bearer {KEY}"}
    for reply in (guarded.call("GET", "/docs"), guarded.call("GET", "/v2/models/iris", **key),
                  guarded.call("GET", "/v2")):  # fmt: skip
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert "server" not in reply.headers


def test_keys_come_from_both_settings(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{OTHER}\n\n")
    settings = Settings(api_keys=Secret(f" {KEY} ,"), api_keys_file=tmp_path / "keys")
    assert read_keys(settings) == (KEY.encode(), OTHER.encode())
    assert read_keys(Settings()) == ()


@pytest.mark.parametrize(
    ("server", "host", "passes"),
    [
        (("127.0.0.1", 80), b"127.0.0.1:80", True),
        (("127.0.0.1", 80), b"localhost", True),
        (("::1", 80), b"[::1]:80", True),
        (("::1", 80), b"[::1]", True),
        (("/run/petal.sock", None), b"", True),
        (("127.0.0.1", 80), b"localhost.", True),
        (("127.0.0.1", 80), b"LocalHost.:80", True),
        (("127.0.0.1", 80), b"app.localhost:8000", True),
        (("127.0.0.1", 80), b"a.b.localhost.", True),
        (("::ffff:127.0.0.1", 80), b"127.0.0.1", True),
        (("127.0.0.1", 80), b"localhost..", False),
        (("127.0.0.1", 80), b"xlocalhost", False),
        (("127.0.0.1", 80), b"app.localhost.example", False),
        (("::ffff:192.0.2.1", 80), b"127.0.0.1", False),
        (("127.0.0.1", 80), b"rebound.example", False),
        (("127.0.0.1", 80), b"localhost.example:80", False),
        (("192.0.2.1", 80), b"127.0.0.1", False),
    ],
)
def test_without_keys_only_this_machine_may_send_requests(
    server: tuple[str, int | None], host: bytes, passes: bool
) -> None:
    headers, state = [(b"host", host)], {"keys": ()}
    scope = {"path": "/v2", "server": server, "headers": headers, "state": state}
    try:
        Auth([]).check(scope)
    except Forbidden:
        assert not passes
    else:
        assert passes


def test_open_paths_stay_open_below_a_prefix(tmp_path: Path, artifact: Path) -> None:
    with Pipeline(tmp_path, settings_for(tmp_path, artifact)) as p:
        p.env["PETAL_API_KEYS"] = KEY
        p.api("api.app:app", "--root-path", "/petal")
        service = Service(p, int(p.env["PETAL_API_PORT"]))
        for path in ("/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"):
            assert service.call("GET", path).status == 200
        assert service.call("GET", "/v2").status == 401
        key = {"authorization": f"Bearer {KEY}"}
        assert service.call("POST", INFER, QUESTION, **key).status == 200


@pytest.mark.parametrize(
    ("path", "prefix", "inner"),
    [("/v2", "", "/v2"), ("/a/v2", "/a", "/v2"), ("/ab/v2", "/a", "/ab/v2"),
     ("/v2/v2", "/v2", "/v2"), ("/a", "/a", "/a")],
)  # fmt: skip
def test_a_prefix_ends_at_a_slash(path: str, prefix: str, inner: str) -> None:
    assert route_path({"path": path, "root_path": prefix}) == inner


@pytest.fixture
def plain(tmp_path: Path, artifact: Path) -> Iterator[Service]:
    """Plain uvicorn, whose --host the service cannot check."""
    with Pipeline(tmp_path, settings_for(tmp_path, artifact)) as p:
        p.api("api.app:app", "--host", "0.0.0.0").wait_for("Uvicorn running")
        yield Service(p, int(p.env["PETAL_API_PORT"]))


def test_plain_uvicorn_refuses_requests_from_other_machines(plain: Service) -> None:
    assert plain.call("GET", "/v2").status == 200
    refused = plain.call("GET", "/v2", host="petal.example")
    assert (refused.status, refused.json) == (
        403, {"error": "without PETAL_API_KEYS only this machine may send requests"},
    )  # fmt: skip
    assert plain.call("GET", "/v2/health/live", host="petal.example").status == 200
