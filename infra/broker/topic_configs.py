"""The configs of topics that were created without ours, by Kafka's defaults or an older version.

- `message.timestamp.type` must be LogAppendTime. With Kafka's default, CreateTime, a record has the
  time that its producer gave it, and retention goes by that: a task of 1970 is deleted before a
  worker reads it, although its client has the broker's acknowledgement.
- `max.message.bytes` must be at least ours, or a result may not fit into its topic.

The other configs are left as they are, because a person may have changed them.
"""

import logging
from collections.abc import Mapping, Sequence

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import AlterConfigsResponse_v1, RequestStruct
from aiokafka.protocol.api import Request
from aiokafka.protocol.types import Array, Boolean, Int8, Schema, String
from typing_extensions import override

from infra.log import report
from infra.topics import MAX_BYTES_CONFIG, TIMESTAMP_CONFIG, Topic

TOPIC, SET = 2, 0  # a resource's type, and an operation
Configs = Mapping[str, str]


class IncrementalAlterV0(RequestStruct):  # type: ignore[misc]
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = AlterConfigsResponse_v1
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                (
                    "configs",
                    Array(
                        ("name", String("utf-8")),
                        ("operation", Int8),
                        ("value", String("utf-8")),
                    ),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class IncrementalAlter(Request[IncrementalAlterV0]):  # type: ignore[misc]
    """Changes some configs of a topic. aiokafka 0.14.0 can only replace all of them."""

    API_KEY = 44

    def __init__(self, topic: str, configs: Configs) -> None:
        self._topic, self._configs = topic, configs

    @override
    def build(self, request_struct_class: type[IncrementalAlterV0]) -> IncrementalAlterV0:
        changes = [(name, SET, value) for name, value in self._configs.items()]
        return request_struct_class([(TOPIC, self._topic, changes)], False)


def deviations(found: Configs, wanted: Configs) -> dict[str, str]:
    """What to set on a topic with the configs `found`; a config that it does not name is right."""
    changes = {}
    if found.get(TIMESTAMP_CONFIG, wanted[TIMESTAMP_CONFIG]) != wanted[TIMESTAMP_CONFIG]:
        changes[TIMESTAMP_CONFIG] = wanted[TIMESTAMP_CONFIG]
    if int(found.get(MAX_BYTES_CONFIG, wanted[MAX_BYTES_CONFIG])) < int(wanted[MAX_BYTES_CONFIG]):
        changes[MAX_BYTES_CONFIG] = wanted[MAX_BYTES_CONFIG]
    return changes


async def correct(admin: AIOKafkaAdminClient, wanted: Sequence[Topic], bootstrap: str) -> None:
    """Set what is missing. Where this account may not, print the command that does.

    A topic whose configs this account may not read is left alone.
    """
    try:
        found = await _describe(admin, [topic.name for topic in wanted])
    except (KafkaError, NotImplementedError):
        return
    for topic in wanted:
        changes = deviations(found.get(topic.name, {}), topic.config)
        if changes:
            await _set(admin, topic.name, changes, bootstrap)


async def _describe(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> dict[str, Configs]:
    names = dict.fromkeys((TIMESTAMP_CONFIG, MAX_BYTES_CONFIG))
    responses = await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topic, names) for topic in topics]
    )
    return {
        resource["resource_name"]: {
            entry["config_names"]: entry["config_value"] for entry in resource["config_entries"]
        }
        for response in responses
        for resource in response.to_object()["resources"]
        if resource["error_code"] == 0
    }


async def _set(admin: AIOKafkaAdminClient, topic: str, changes: Configs, bootstrap: str) -> None:
    text = ",".join(f"{name}={value}" for name, value in changes.items())
    try:
        response = await admin._send_to_controller(IncrementalAlter(topic, changes))
        [(code, message, *_)] = response.resources
        if code:
            raise for_code(code)(message)
    except (KafkaError, NotImplementedError) as e:
        report(
            f"topic {topic!r} needs {text}, or accepted records may be lost, and it cannot be set "
            f"from here ({type(e).__name__}); run: kafka-configs.sh --bootstrap-server {bootstrap} "
            f"--alter --entity-type topics --entity-name {topic} --add-config {text}"
        )
    else:
        report(f"set {text} on the topic {topic!r}, which was created without it", logging.WARNING)
