"""The documents are true: they have every route, and the service behaves as they say."""

import copy
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR
from starlette.routing import Route

from api.app import create_app
from api.docs import openapi
from api.docs.asyncapi import DeadLetterHeaders
from api.docs.openapi import Undescribed, described
from infra.config import Settings
from model.artifact import Loaded
from streams.records import Chunk
from tests.processes import ROOT, clean_environ
from tests.service import Service, serving

ASYNCAPI = ROOT / "tests" / "data" / "asyncapi-3.0.0.json.gz"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Service]:
    """The service with a broker, and no worker."""
    with serving(tmp_path_factory.mktemp("documents"), artifact) as running:
        yield running


@pytest.fixture(scope="module")
def document(service: Service) -> Any:
    return service.call("GET", "/openapi.json").json


def test_the_document_has_every_route_and_nothing_else(document: Any, artifact: Path) -> None:
    app = create_app(Settings(model=artifact)).app
    routes = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    told = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert len(app.routes) > 10
    assert told == routes


def test_a_generated_client_can_send_and_read_binary_tensors(document: Any) -> None:
    operation = document["paths"]["/v2/models/{model}/infer"]["post"]
    name = "Inference-Header-Content-Length"
    assert name in {p["name"] for p in operation["parameters"] if p["in"] == "header"}
    assert name in operation["responses"]["200"]["headers"]
    assert "application/octet-stream" in operation["responses"]["200"]["content"]


def test_the_headers_of_errors_are_in_the_document(document: Any) -> None:
    responses = document["paths"]["/tasks"]["post"]["responses"]
    told = {status: list(r["headers"]) for status, r in responses.items() if "headers" in r}
    assert told.pop("202") == told.pop("200")
    assert told == {
        "401": ["WWW-Authenticate"],
        "429": ["Retry-After"],
        "503": ["Retry-After"],
    }


def test_a_route_without_a_description_is_found() -> None:
    async def silent(_: Any) -> Any: ...

    with pytest.raises(Undescribed, match=r"^/silent: its handler has no @Operation$"):
        openapi.document([Route("/silent", silent)], "1")


def test_operation_ids_are_unique(artifact: Path) -> None:
    app = create_app(Settings(model=artifact)).app
    ids = [openapi.operation_id(each) for each in described(app.routes)]
    assert len(set(ids)) == len(ids) > 10


def test_the_document_is_valid_openapi(document: Any) -> None:
    OPENAPI_31_VALIDATOR.validate(document)
    assert not OPENAPI_31_VALIDATOR.is_valid({**document, "paths": {"tasks": {}}})


def test_the_document_of_the_topics_is_valid_asyncapi(service: Service) -> None:
    schema = json.loads(gzip.decompress(ASYNCAPI.read_bytes()))
    validator = jsonschema.validators.validator_for(schema)(schema)
    told = service.call("GET", "/asyncapi.json").json
    assert list(validator.iter_errors(told)) == []
    assert list(told["channels"]) == ["tasks", "results", "dead-letters"]
    assert list(validator.iter_errors({**told, "operations": {"x": {"action": "emit"}}})) != []


def test_the_headers_of_a_dead_letter_are_those_that_the_worker_sends() -> None:
    from streams.processing.processor import DeadLetter
    from streams.worker import _headers

    chunk = Chunk("tasks", 0, 0, [])
    sent = [name for name, _ in _headers(chunk, DeadLetter(None, None, 0, "tombstone"))]
    assert sent == list(DeadLetterHeaders.__struct_encode_fields__)


class Links(HTMLParser):
    """Collects a page's ids and the targets of its links."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                assert value not in self.ids, f"{value} twice"
                self.ids.add(value or "")
            elif name in ("href", "src", "action"):
                self.targets.add(value or "")
            assert not name.startswith("on"), name
        assert tag != "script"


def test_the_page_has_every_operation_and_needs_no_other_host(
    service: Service, document: Any
) -> None:
    page = service.call("GET", "/docs")
    links = Links()
    links.feed(page.text)
    assert {o["operationId"] for p in document["paths"].values() for o in p.values()} <= links.ids
    assert {t for t in links.targets if t.startswith("#")} <= {f"#{name}" for name in links.ids}
    others = {t for t in links.targets if not t.startswith("#")}
    assert others == {"/docs/docs.css", "/openapi.json", "/asyncapi.json"}
    assert {service.call("GET", target).status for target in others} == {200}
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    style = service.call("GET", "/docs/docs.css")
    assert style.headers["content-type"] == "text/css; charset=utf-8"
    assert not re.search(r"url\(|@import|https?:", style.text + page.text)


CONFIG = """
[parameters]
"path.model" = "iris"

[generation]
deterministic = true
max-examples = 10

# Streams of events do not end by themselves.
[[operations]]
include-path = ["/results", "/tasks/{id}/events"]
request-timeout = 0.2
max-stream-events = 1
generation.max-examples = 3

# Whether rows are a question for the model, and a tensor's data has its shape, no schema tells.
[checks.positive_data_acceptance]
enabled = false

[warnings]
fail-on = ["unused_openapi_auth"]
"""


def asked_by_schemathesis(folder: Path, url: str, document: Any) -> tuple[int, str]:
    """Exit code and output of schemathesis for a document and a service."""
    (folder / "config.toml").write_text(CONFIG)
    (folder / "openapi.json").write_text(json.dumps(document))
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", "config.toml"),
            *("run", "openapi.json", "--url", url, "--phases", "examples,coverage,fuzzing"),
            *("--no-color", "--suppress-health-check", "all"),
        ],
        cwd=folder, env=clean_environ(), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def of_models_that_are_there(document: Any, loaded: Loaded) -> Any:
    """The document with the names and versions that there are, so that questions reach a model.

    Without `unload`, for what comes after it would miss the model; test_repository.py has it.
    """
    known = copy.deepcopy(document)
    del known["paths"]["/v2/repository/models/{model}/unload"]
    names = {"model": loaded.card.name, "version": loaded.card.sha256[:12]}
    for operations in known["paths"].values():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                if parameter["in"] == "path" and parameter["name"] in names:
                    parameter["schema"] = {"enum": [names[parameter["name"]]]}
    return known


def test_the_service_does_what_the_document_says(
    service: Service, document: Any, loaded: Loaded, tmp_path: Path
) -> None:
    """Schemathesis asks every operation, with data that fits its schema and data that does not."""
    known = of_models_that_are_there(document, loaded)
    code, output = asked_by_schemathesis(tmp_path, service.url, known)
    assert code == 0, output
    tested = re.search(r"Tested: (\d+)", output)
    assert tested is not None
    assert int(tested[1]) == sum(map(len, known["paths"].values()))


def test_a_document_that_is_not_true_is_found(
    service: Service, document: Any, tmp_path: Path
) -> None:
    live = copy.deepcopy(document["paths"]["/v2/health/live"])
    live["get"]["responses"]["200"]["content"]["application/json"]["schema"] = {"type": "array"}
    told = {**document, "paths": {"/v2/health/live": live}}
    code, output = asked_by_schemathesis(tmp_path, service.url, told)
    assert (code, "Response violates schema" in output) == (1, True), output
