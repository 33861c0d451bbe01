"""The OpenAPI document has every route, and the service behaves as it says."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR
from starlette.routing import Route

from api.app import create_app
from api.docs import openapi
from api.docs.openapi import Undescribed, described
from infra.config import Settings
from model.artifact import Loaded
from tests.processes import clean_environ
from tests.service import Service


def test_the_document_has_every_route_and_nothing_else(document: Any, artifact: Path) -> None:
    app: Any = create_app(Settings(model=artifact)).app
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
    app: Any = create_app(Settings(model=artifact)).app
    ids = [openapi.operation_id(each) for each in described(app.routes)]
    assert len(set(ids)) == len(ids) > 10


def test_the_document_is_valid_openapi(document: Any) -> None:
    OPENAPI_31_VALIDATOR.validate(document)
    assert not OPENAPI_31_VALIDATOR.is_valid({**document, "paths": {"tasks": {}}})


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
