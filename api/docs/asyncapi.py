"""AsyncAPI 3 of the three topics, from the types of the contract.

The operations are those of the pipeline: it receives tasks and sends results. Source: the
AsyncAPI Specification 3.0.0 and its Kafka bindings 0.5.0.
"""

from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from api.docs.openapi import REPEATED_NAMES, tidy
from infra.config import Settings
from infra.topics import DEAD_LETTERS, RESULTS, TASKS
from streams.events import BooleanTask, Result, TableTask, Task, TaskId

Document = dict[str, Any]

REFERENCE = "#/components/schemas/{name}"
KAFKA_BINDINGS = "0.5.0"


class DeadLetterHeaders(Struct, rename="kebab"):
    """Why a record could not be read, and its place; all values are texts."""

    petal_reason: str
    petal_topic: str
    petal_partition: str
    petal_offset: str


class TraceHeaders(Struct, omit_defaults=True):
    """W3C Trace Context of a task's record, copied to its result's."""

    traceparent: str | None = None


class Channel(NamedTuple):
    """A topic, by its name without a prefix; `action` is the pipeline's."""

    topic: str
    about: str
    action: str
    messages: tuple[type, ...]
    headers: type | None = None


CHANNELS = (
    Channel(
        TASKS,
        "Rows to predict, by the model that the task names or else by the pipeline's default. The "
        "rows must be valid for that model; its card is under `/v2/models/{model}` of the REST "
        "service. A model that is not served gets the error `unknown_model`, or "
        "`model_unavailable` if its file cannot be loaded.",
        "receive",
        (Task, TableTask, BooleanTask),
    ),
    Channel(
        RESULTS,
        "One result for each task, in the partition with the task's number.",
        "send",
        (Result,),
    ),
    Channel(
        DEAD_LETTERS,
        "Records of `tasks` that could not be read, with unchanged bytes. A batch of records that "
        "could not be decoded (`undecodable_batch`) is one dead letter: the first 64 kB of its "
        "bytes, and the further headers petal-last-offset, petal-detail, petal-full-bytes and "
        "petal-sha256.",
        "send",
        (bytes,),
        DeadLetterHeaders,
    ),
)


TOPICS = [channel.topic for channel in CHANNELS]


def document(settings: Settings, version: str) -> Document:
    """The document of the topics, with the partitions and replicas of the settings."""
    types = [Task, TableTask, BooleanTask, Result, DeadLetterHeaders, TraceHeaders]
    _, schemas = msgspec.json.schema_components(types, ref_template=REFERENCE)
    ((key,), _) = msgspec.json.schema_components([TaskId])
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "petalstream",
            "version": version,
            "description": "Tasks for a scikit-learn model and their results, on Kafka. "
            f"{REPEATED_NAMES}",
        },
        "defaultContentType": "application/json",
        "channels": {channel.topic: _channel(channel, settings) for channel in CHANNELS},
        "operations": {
            f"{channel.action}-{channel.topic}": {
                "action": channel.action,
                "channel": {"$ref": f"#/channels/{channel.topic}"},
            }
            for channel in CHANNELS
        },
        "components": {
            "schemas": tidy(schemas),
            "messages": {
                _name(kind, channel): _message(kind, channel, key)
                for channel in CHANNELS
                for kind in channel.messages
            },
        },
    }


def _channel(channel: Channel, settings: Settings) -> Document:
    address = settings.names[TOPICS.index(channel.topic)]
    partitions = 1 if channel.topic == DEAD_LETTERS else settings.partitions
    names = [_name(kind, channel) for kind in channel.messages]
    return {
        "address": address,
        "description": channel.about,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "kafka": {
                "topic": address,
                "partitions": partitions,
                "replicas": settings.replication,
                "bindingVersion": KAFKA_BINDINGS,
            }
        },
    }


def _name(kind: type, channel: Channel) -> str:
    return "DeadLetter" if channel.headers else kind.__name__


def _message(kind: type, channel: Channel, key: Document) -> Document:
    if channel.headers is None:
        return {
            "headers": {"$ref": REFERENCE.format(name=TraceHeaders.__name__)},
            "payload": {"$ref": REFERENCE.format(name=kind.__name__)},
            "bindings": {"kafka": {"key": key, "bindingVersion": KAFKA_BINDINGS}},
        }
    return {
        "contentType": "application/octet-stream",
        "headers": {"$ref": REFERENCE.format(name=channel.headers.__name__)},
        "payload": {"description": "the unchanged value of the record in `tasks`"},
    }
