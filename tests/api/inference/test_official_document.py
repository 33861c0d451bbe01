"""A client made from the protocol's official OpenAPI document, against the service.

`tests/data/open_inference_rest.yaml` is that of https://github.com/kserve/open-inference-protocol.
What the client sends and what it gets must be as the document has it. Code generators cannot
read its tensor data, which are lists of themselves, so the client is made when the test runs.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml

from infra.config import Settings
from model.artifact import Loaded
from model.predict import predict
from tests.processes import ROOT, free_port
from tests.service import in_thread

DOCUMENT = yaml.safe_load((ROOT / "tests" / "data" / "open_inference_rest.yaml").read_text())
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 5.0, 2.0]]


def check(value: Any, schema: dict[str, Any]) -> None:
    """Raise ValidationError if a value is not as a part of the document has it."""
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema.Draft4Validator(whole).validate(value)


class Client:
    """An operation for each of the document's; bodies are checked on their way out and back."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.operations = {
            operation["operationId"]: (method, path, operation)
            for path, item in DOCUMENT["paths"].items()
            for method, operation in item.items()
            if method in ("get", "post")
        }

    def call(
        self, operation_id: str, names: dict[str, str], body: Any = None, valid: bool = True
    ) -> Any:
        """Status and body of the answer; `names` are the path's.

        `valid`: the request's body is as the document has it.
        """
        method, path, operation = self.operations[operation_id]
        for name, value in names.items():
            path = path.replace(f"${{{name}}}", value)
        data = None
        if body is not None:
            if valid:
                check(body, operation["requestBody"]["content"]["application/json"]["schema"])
            data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, data, headers, method=method.upper())
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                status, text = reply.status, reply.read()
        except urllib.error.HTTPError as e:
            status, text = e.code, e.read()
        answer = json.loads(text)
        for media_type in operation["responses"][str(status)].get("content", {}).values():
            check(answer, media_type["schema"])
        return status, answer


@pytest.fixture(scope="module")
def client(artifact: Path) -> Iterator[Client]:
    with in_thread(Settings(model=artifact, embedded_port=free_port())) as url:
        yield Client(url)


@pytest.fixture
def names(loaded: Loaded) -> dict[str, str]:
    return {"MODEL_NAME": "iris", "MODEL_VERSION": loaded.card.sha256[:12]}


INFER = "post-v2-models-$-MODEL_NAME-versions-$-MODEL_VERSION-infer"


def test_every_operation_of_the_document_is_answered(client: Client, names: dict[str, str]) -> None:
    gets = sorted(o for o, (method, _, _) in client.operations.items() if method == "get")
    assert len(gets) == 5
    assert [client.call(operation, names)[0] for operation in gets] == [200] * 5


@pytest.mark.parametrize("data", [ROWS, [value for row in ROWS for value in row]])
def test_an_inference_is_as_the_document_has_it(
    client: Client, names: dict[str, str], loaded: Loaded, data: list[Any]
) -> None:
    tensor = {"name": "X", "shape": [2, 4], "datatype": "FP64", "data": data}
    outputs = [{"name": "predict_proba", "parameters": {}}, {"name": "predict"}]
    body = {"id": "42", "parameters": {"any": 1}, "inputs": [tensor], "outputs": outputs}
    status, answer = client.call(INFER, names, body)
    y, proba, _ = predict(loaded.model, np.array(ROWS))
    assert proba is not None
    assert (status, answer["id"], answer["model_version"]) == (200, "42", names["MODEL_VERSION"])
    assert [output["data"] for output in answer["outputs"]] == [[*proba[0], *proba[1]], y]


def test_a_refusal_is_as_the_document_has_it(client: Client, names: dict[str, str]) -> None:
    tensor = {"name": "X", "shape": [2, 4], "datatype": "FP64", "data": [1.0]}
    assert client.call(INFER, names, {"inputs": [tensor]}) == (
        400, {"error": "input 'X': the data does not have the shape [2, 4]"},
    )  # fmt: skip
    assert client.call(INFER, names, {"inputs": [{**tensor, "shape": [1, 1]}]}) == (
        400,
        {
            "error": "got 1 values, iris takes 4: "
            "sepal_length, sepal_width, petal_length, petal_width",
            "code": "wrong_width",
        },
    )
    assert client.call(INFER, names, {"id": "1"}, valid=False)[0] == 400


def test_the_client_notices_what_is_not_as_the_document_has_it() -> None:
    response = DOCUMENT["components"]["schemas"]["inference_response"]
    check({"model_name": "iris", "outputs": []}, response)
    with pytest.raises(jsonschema.ValidationError):
        check({"model_name": "iris", "outputs": [{"name": "predict"}]}, response)
