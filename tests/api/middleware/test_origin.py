"""Pages of other sites may send nothing that changes something, unless a setting allows them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.errors import CrossSite
from api.middleware.origin import Origins
from infra.config import load
from infra.errors import ConfigError
from tests.service import INFER, QUESTION, Service, serving

REFUSAL = "pages of other sites may not send this; PETAL_CORS_ORIGINS allows them"
SITE = "https://lab.example"
UNLOAD = "/v2/repository/models/iris/unload"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("closed"), artifact, broker=False) as running:
        yield running


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Service]:
    env = {"PETAL_CORS_ORIGINS": f"{SITE}, http://localhost:3000"}
    with serving(tmp_path_factory.mktemp("opened"), artifact, env, broker=False) as running:
        yield running


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"origin": "http://localhost:8000"}, True),
        ({"origin": "HTTP://LocalHost:8000"}, True),
        ({"origin": "https://localhost:8000"}, True),  # TLS ends at a proxy
        ({"origin": "http://localhost"}, False),
        ({"origin": "http://localhost:8001"}, False),
        ({"origin": "http://localhost:8000.example"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "file://"}, False),
        (
            {"origin": "http://evil.example", "sec-fetch-site": "same-origin"},
            True,
        ),  # browsers' word
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "Cross-Site"}, False),
        ({"origin": "http://localhost:8000", "sec-fetch-site": "cross-site"}, False),
        ({"origin": SITE, "sec-fetch-site": "cross-site"}, True),
        ({"origin": SITE + ":444", "sec-fetch-site": "cross-site"}, False),
    ],
)
def test_a_request_comes_from_a_program_or_a_page_of_this_service(
    headers: dict[str, str], passes: bool
) -> None:
    given = {name.encode(): value.encode() for name, value in headers.items()}
    origins = Origins((SITE,))
    for method in ("POST", "DELETE", "PUT", "ODD"):
        try:
            origins.check(method, {b"host": b"localhost:8000", **given})
        except CrossSite:
            assert not passes
        else:
            assert passes
    origins.check("GET", given)
    Origins(("*",)).check("POST", given)


@pytest.mark.parametrize("path", [UNLOAD, UNLOAD.replace("un", ""), "/tasks", INFER])
def test_a_page_of_another_site_changes_nothing(closed: Service, path: str) -> None:
    for headers in (
        {"origin": "http://evil.example"},
        {"sec_fetch_site": "cross-site"},
        {"origin": "null", "content_type": "text/plain"},
    ):
        reply = closed.call("POST", path, b"{}", **headers)
        assert (reply.status, reply.json) == (403, {"error": REFUSAL})
        assert "access-control-allow-origin" not in reply.headers
    assert closed.call("OPTIONS", path, origin=SITE).status == 405
    assert closed.call("POST", INFER, QUESTION).status == 200


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; b=1"])
@pytest.mark.parametrize("path", [UNLOAD, "/v2/repository/index", "/tasks", INFER])
def test_forms_are_refused_wherever_a_body_is_read(closed: Service, path: str, kind: str) -> None:
    reply = closed.call("POST", path, b"{}", content_type=kind)
    assert reply.status == 415
    assert reply.json["error"].startswith("the body must be application/json")
    assert closed.call("POST", INFER, QUESTION).status == 200


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.x+json", ""])
def test_json_has_many_names(closed: Service, kind: str) -> None:
    assert closed.call("POST", INFER, QUESTION, content_type=kind).status == 200


def test_a_page_of_an_allowed_origin_may_ask_and_read(opened: Service) -> None:
    asked = opened.call("OPTIONS", INFER, origin=SITE, access_control_request_method="POST",
                        access_control_request_headers="content-type, authorization")  # fmt: skip
    assert (asked.status, asked.headers["access-control-allow-origin"]) == (200, SITE)
    assert "POST" in asked.headers["access-control-allow-methods"]
    answer = opened.call("POST", INFER, QUESTION, origin=SITE, sec_fetch_site="cross-site")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, SITE)
    other = opened.call("POST", INFER, QUESTION, origin="http://evil.example")
    assert (other.status, "access-control-allow-origin" in other.headers) == (403, False)


@pytest.mark.parametrize("origins", ["lab.example", "https://lab.example/path", "https://", "null"])
def test_a_setting_that_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(ConfigError, match=r"PETAL_CORS_ORIGINS: .* is not an origin such as"):
        load({"PETAL_CORS_ORIGINS": origins})
