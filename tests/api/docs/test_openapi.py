"""The OpenAPI document has every route, and the service behaves as it says."""

import copy
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR
from starlette.routing import Route

from api.app import create_app
from api.docs import openapi
from api.docs.openapi import Undescribed, described
from api.middleware.stack import MiddlewareStack
from infra.config import Settings
from model.artifact import Loaded
from model.card import Card, Feature
from tests.processes import clean_environ
from tests.service import Service


def test_the_document_has_every_route_and_nothing_else(document: Any, artifact: Path) -> None:
    app = create_app(Settings(model=artifact))
    assert isinstance(app, MiddlewareStack)
    routes = {
        (route.path, method.lower())
        for route in app.app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    told = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert len(app.app.routes) > 10
    assert told == routes


def schemas_of(part: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every schema of a document, with its place."""
    if isinstance(part, list):
        for n, each in enumerate(part):
            yield from schemas_of(each, f"{place}/{n}")
    if not isinstance(part, dict):
        return
    for name, each in part.items():
        inner = f"{place}/{name}"
        if name in ("schema", "items", "payload") or place.endswith(("/properties", "/schemas")):
            yield inner, each
        if name in ("anyOf", "oneOf", "allOf", "prefixItems"):
            yield from ((f"{inner}/{n}", schema) for n, schema in enumerate(each))
        if name not in ("example", "examples", "enum", "default"):
            yield from schemas_of(each, inner)


def untyped(document: Any) -> list[str]:
    """The places of arrays without items, and of schemas that say nothing of a value."""
    words = {"type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"}
    return [
        place
        for place, schema in schemas_of(document)
        if (schema.get("type") == "array" and not {"items", "prefixItems"} & schema.keys())
        or not words & schema.keys()
    ]


def test_every_schema_has_a_type_and_every_array_its_items(document: Any) -> None:
    assert len(list(schemas_of(document))) > 200
    assert untyped(document) == []
    broken = copy.deepcopy(document)
    del broken["components"]["schemas"]["InputTensor"]["properties"]["data"]["items"]
    broken["components"]["schemas"]["Label"] = {}
    assert untyped(broken) == [
        "/components/schemas/InputTensor/properties/data", "/components/schemas/Label"
    ]  # fmt: skip


def test_every_operation_with_a_body_has_an_example_that_fits(document: Any) -> None:
    bodies = {
        f"{method} {path}": operation["requestBody"]["content"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "requestBody" in operation
    }
    assert len(bodies) == 6
    for name, content in bodies.items():
        for media, body in content.items():
            if media == "application/octet-stream":  # not a text
                continue
            whole = {**body["schema"], "components": document["components"]}
            jsonschema.Draft202012Validator(whole).validate(body["example"])
            assert "example" in body, (name, media)


def test_the_examples_are_answered(service: Service, document: Any) -> None:
    for path in ("/v2/models/{model}/infer", "/tasks", "/v2/repository/index"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        for media in content.keys() - {"application/octet-stream"}:
            example = content[media]["example"]
            body = example.encode() if isinstance(example, str) else example
            reply = service.call("POST", path.format(model="iris"), body, content_type=media)
            assert reply.status in (200, 202), (path, media, reply)
            assert b'"error"' not in reply.body


def test_the_examples_are_those_of_the_model_that_is_served(artifact: Path) -> None:
    app = create_app(Settings(model=artifact))
    assert isinstance(app, MiddlewareStack)
    features = (
        Feature(name="size", minimum=20.0, maximum=200.0),
        Feature(name="kind", type="text", categories=("flat", "house", "hut")),
    )
    card = Card(name="rent", kind="regressor", features=features, libraries={}, sha256="0" * 64)
    paths = openapi.document(app.app.routes, "1", [card])["paths"]
    body = paths["/v2/models/{model}/infer"]["post"]["requestBody"]["content"]["application/json"]
    assert body["example"]["inputs"] == [
        {"name": "size", "shape": [1], "datatype": "FP64", "data": [110.0]},
        {"name": "kind", "shape": [1], "datatype": "BYTES", "data": ["house"]},
    ]


def generated(command: str, document: Any, folder: Path, *options: str) -> str:
    """What a generator of code prints; it reads the document from `openapi.json`."""
    (folder / "openapi.json").write_text(json.dumps(document))
    done = subprocess.run(
        [str(Path(sys.executable).with_name(command)), *options],
        cwd=folder, env=clean_environ(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


USE_OF_THE_CLIENT = """
import json, sys
from made import Client
from made.api.open_inference_protocol import post_v2_models_model_infer as infer
from made.api.tasks import post_tasks
from made.models import InferenceRequest, InputTensor, NumericTask

client = Client(base_url=sys.argv[1])
tensor = InputTensor(name="X", shape=[1, 4], datatype="FP64", data=[5.1, 3.5, 1.4, 0.2])
answer = infer.sync("iris", client=client, body=InferenceRequest(inputs=[tensor]))
task = post_tasks.sync(client=client, body=NumericTask(x=[[5.1, 3.5, 1.4, 0.2]]))
print(json.dumps([answer.model_name, answer.outputs[0].data, type(task).__name__]))
"""


def test_a_client_of_openapi_python_client_asks_every_operation(
    service: Service, document: Any, tmp_path: Path
) -> None:
    # It knows no lines of JSON by itself.
    types = {"application/jsonl": "application/octet-stream"}
    (tmp_path / "config.json").write_text(
        json.dumps({"post_hooks": [], "content_type_overrides": types})
    )
    printed = generated(
        "openapi-python-client", document, tmp_path, "generate", "--path", "openapi.json",
        "--output-path", "made", "--meta", "none", "--config", "config.json",
    )  # fmt: skip
    assert printed.strip() == "Generating made"
    operations = sum(map(len, document["paths"].values()))
    modules = [p for p in (tmp_path / "made" / "api").rglob("*.py") if p.stem != "__init__"]
    assert len(modules) == operations
    (tmp_path / "use.py").write_text(USE_OF_THE_CLIENT)
    done = subprocess.run(
        [sys.executable, "use.py", service.url],
        cwd=tmp_path, env=clean_environ(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["iris", ["setosa"], "Accepted"]


def test_the_types_of_datamodel_code_generator_read_and_write_an_inference(
    service: Service, document: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated(
        "datamodel-codegen", document, tmp_path, "--input", "openapi.json",
        "--input-file-type", "openapi", "--output", "made_types.py",
        "--output-model-type", "pydantic_v2.BaseModel", "--formatters", "builtin",
    )  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    made: Any = importlib.import_module("made_types")
    assert document["components"]["schemas"].keys() <= vars(made).keys()
    tensor = made.InputTensor(name="X", shape=[1, 4], datatype="FP64", data=[5.1, 3.5, 1.4, 0.2])
    asked = made.InferenceRequest(inputs=[tensor]).model_dump_json(exclude_none=True)
    reply = service.call("POST", "/v2/models/iris/infer", asked.encode())
    answer = made.InferenceResponse.model_validate_json(reply.body)
    assert answer.outputs[0].model_dump()["data"] == ["setosa"]


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
    app = create_app(Settings(model=artifact))
    assert isinstance(app, MiddlewareStack)
    ids = [openapi.operation_id(each) for each in described(app.app.routes)]
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
include-path = ["/results", "/tasks/{id}/events", "/live"]
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
    Without the example of lines of JSON, which schemathesis cannot send.
    """
    known = copy.deepcopy(document)
    del known["paths"]["/tasks"]["post"]["requestBody"]["content"]["application/jsonl"]["example"]
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
