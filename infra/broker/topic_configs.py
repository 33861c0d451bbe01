"""The configs of topics that were created without ours, by Kafka's defaults or an older version.

- `message.timestamp.type` must be LogAppendTime. With Kafka's default, CreateTime, a record has the
  time that its producer gave it, and retention goes by that: a task of 1970 is deleted before a
  worker reads it, although its client has the broker's acknowledgement.
- `max.message.bytes` must be at least ours, or a result may not fit into its topic.
- With several replicas, `min.insync.replicas` must be at least ours, or an acknowledged record may
  be on one disk only, and `unclean.leader.election.enable` must be false, or a replica that lacks
  acknowledged records may become the leader.

The other configs are left as they are, because a person may have changed them.
"""

import logging
import operator
from collections.abc import Callable, Mapping, Sequence

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, for_code
from aiokafka.protocol.admin import AlterConfigsResponse_v1, RequestStruct
from aiokafka.protocol.api import Request
from aiokafka.protocol.types import Array, Boolean, Int8, Schema, String
from typing_extensions import override

from infra.log import report
from infra.topics import (
    IN_SYNC_CONFIG,
    MAX_BYTES_CONFIG,
    TIMESTAMP_CONFIG,
    UNCLEAN_CONFIG,
    Topic,
)

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


def _is_less(found: str, wanted: str) -> bool:
    return int(found) < int(wanted)


# What is wrong of each config, by what is found and what is wanted.
IS_WRONG: Mapping[str, Callable[[str, str], bool]] = {
    TIMESTAMP_CONFIG: operator.ne,
    MAX_BYTES_CONFIG: _is_less,
    IN_SYNC_CONFIG: _is_less,
    UNCLEAN_CONFIG: operator.ne,
}


def deviations(found: Configs, wanted: Configs) -> dict[str, str]:
    """What to set on a topic with the configs `found`; a config that it does not name is right."""
    return {
        name: wanted[name]
        for name, is_wrong in IS_WRONG.items()
        if name in wanted and is_wrong(found.get(name, wanted[name]), wanted[name])
    }


async def correct(admin: AIOKafkaAdminClient, wanted: Sequence[Topic], bootstrap: str) -> None:
    """Set what is missing. Where this account may not, print the command that does.

    A topic whose configs this account may not read is left alone. If it has several replicas, the
    command that shows its configs is printed.
    """
    found, reason = {}, TopicAuthorizationFailedError.__name__
    try:
        found = await _describe(admin, wanted)
    except (KafkaError, NotImplementedError) as e:
        reason = type(e).__name__
    for topic in wanted:
        if topic.name in found:
            if changes := deviations(found[topic.name], topic.config):
                await _set(admin, topic.name, changes, bootstrap)
        elif IN_SYNC_CONFIG in topic.config:
            _report_unread(topic, reason, bootstrap)


def _report_unread(topic: Topic, reason: str, bootstrap: str) -> None:
    report(
        f"the configs of the topic {topic.name!r} cannot be read from here ({reason}); it needs "
        f"{_line({n: topic.config[n] for n in (IN_SYNC_CONFIG, UNCLEAN_CONFIG)})}, or accepted "
        f"records may be lost; to see them, run: kafka-configs.sh --bootstrap-server {bootstrap} "
        f"--describe --all --entity-type topics --entity-name {topic.name}"
    )


async def _describe(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> dict[str, Configs]:
    responses = await admin.describe_configs(
        [
            ConfigResource(
                ConfigResourceType.TOPIC,
                topic.name,
                dict.fromkeys(name for name in IS_WRONG if name in topic.config),
            )
            for topic in topics
        ]
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
    text = _line(changes)
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


def _line(configs: Configs) -> str:
    return ",".join(f"{name}={value}" for name, value in configs.items())
