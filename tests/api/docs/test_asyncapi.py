"""The document of the topics is valid, and names the headers that the worker sends."""

import gzip
import json

import jsonschema

from api.docs.asyncapi import DeadLetterHeaders, document
from infra.config import Settings
from streams.records import Chunk
from tests.processes import ROOT
from tests.service import Service

ASYNCAPI = ROOT / "tests" / "data" / "asyncapi-3.0.0.json.gz"


def test_the_document_of_the_topics_is_valid_asyncapi(service: Service) -> None:
    schema = json.loads(gzip.decompress(ASYNCAPI.read_bytes()))
    validator = jsonschema.validators.validator_for(schema)(schema)
    told = service.call("GET", "/asyncapi.json").json
    assert list(validator.iter_errors(told)) == []
    assert list(told["channels"]) == ["tasks", "results", "dead-letters"]
    assert list(validator.iter_errors({**told, "operations": {"x": {"action": "emit"}}})) != []


def test_the_addresses_are_the_names_of_the_topics_on_the_broker() -> None:
    told = document(Settings(prefix="team"), "1")["channels"]
    assert {name: channel["address"] for name, channel in told.items()} == {
        "tasks": "team.tasks",
        "results": "team.results",
        "dead-letters": "team.dead-letters",
    }
    assert told["tasks"]["bindings"]["kafka"]["topic"] == "team.tasks"


def test_the_headers_of_a_dead_letter_are_those_that_the_worker_sends() -> None:
    from streams.processing.decoder import DeadLetter
    from streams.worker import dead_letter_headers

    chunk = Chunk("tasks", 0, 0, [])
    sent = [name for name, _ in dead_letter_headers(chunk, DeadLetter(None, None, 0, "tombstone"))]
    assert sent == list(DeadLetterHeaders.__struct_encode_fields__)
