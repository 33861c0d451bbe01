"""Tasks that choose between models: which ones the service accepts, without a broker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from infra.config import Settings
from streams.codec import encode
from tests.model.several import Several
from tests.processes import free_port
from tests.service import call, in_thread

IRIS = [[5.1, 3.5, 1.4, 0.2]]
AWAY = {"error": "the task queue is away; nothing was accepted"}  # of a task that was valid


@pytest.fixture(scope="module")
def url(artifact: Path, several: Several) -> Iterator[str]:
    settings = Settings(model=artifact, models=several.folder, embedded_port=free_port())
    with in_thread(settings) as address:
        yield address


def submit(url: str, body: Any) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    reply = call("POST", f"{url}/tasks", data=encode(body), headers=headers)
    return reply.status, reply.json


@pytest.mark.parametrize(
    ("model", "X"),
    [
        ("iris", IRIS),
        ("rent", [[80.0, "flat"]]),
        ("loan", [[5.0, True]]),
        ("line", [[1.0]]),
        ("line@2", [[1.0]]),
    ],
)
def test_a_task_is_valid_by_the_card_of_its_model(url: str, model: str, X: Any) -> None:
    assert submit(url, {"X": X, "model": model}) == (503, AWAY)


def test_a_version_may_be_a_digest(url: str, several: Several) -> None:
    assert submit(url, {"X": [[1.0]], "model": several.cards["line@2"].id}) == (503, AWAY)


@pytest.mark.parametrize(
    ("model", "X", "status", "code", "words"),
    [
        ("rant", [[80.0, "flat"]], 422, "unknown_model", "$.model: this pipeline serves iris@"),
        ("line@3", [[1.0]], 422, "unknown_model", ", line@10, line@2"),
        ("broken", [[1.0]], 503, "model_unavailable", "'broken' is not loaded: no model card"),
        ("rent", IRIS, 422, "wrong_width", "rent takes 2: size, kind"),
        ("rent", [[80.0, "cave"]], 422, "unknown_category", "kind: 'cave' is not one of"),
        (None, [[80.0, "flat"]], 422, "wrong_width", "iris takes 4"),
        (7, IRIS, 422, None, "Expected `str | null`, got `int` - at `$.model`"),
    ],
)
def test_a_task_that_its_model_cannot_take_is_refused(
    url: str, model: Any, X: Any, status: int, code: str | None, words: str
) -> None:
    got, body = submit(url, {"X": X, "model": model})
    assert (got, body.get("code")) == (status, code)
    assert words in body["error"]


def test_the_document_has_a_valid_example_for_each_model(url: str) -> None:
    document = call("GET", f"{url}/openapi.json").json
    content = document["paths"]["/tasks"]["post"]["requestBody"]["content"]["application/json"]
    assert "example" not in content
    assert list(content["examples"]) == ["iris", "rent", "loan", "line", "flat"]
    whole = {**content["schema"], "components": document["components"]}
    for name, example in content["examples"].items():
        body = example["value"]
        assert body.get("model") == (None if name == "iris" else name)
        jsonschema.Draft202012Validator(whole).validate(body)
        assert submit(url, body) == (503, AWAY)


def test_the_page_shows_an_example_for_each_model(url: str) -> None:
    page = call("GET", f"{url}/docs").text
    assert "Example, application/json, model rent" in page
    assert "&quot;model&quot;: &quot;rent&quot;" in page
