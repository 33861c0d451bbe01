"""Which log a topic's name stands for at the moment. Offsets belong to a log, not to a name.

A topic that is deleted and created again has a new log. So have all topics of a broker that lost
its data. Apache Kafka since 2.8 and the embedded broker give each topic an id, which
they never use again; older brokers give only the cluster's id, which shows less.
"""

import asyncio
import base64
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, Response
from aiokafka.protocol.metadata import MetadataRequest_v5, RequestStruct
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)
from typing_extensions import override

from infra.broker import connection
from infra.config import Settings

CHECK_SECONDS = 1.0
RETRY_SECONDS = 0.2
AWAY = (KafkaError, OSError, TimeoutError, ValueError)  # how a missing broker shows itself
NO_ID = bytes(16)


class Uuid(AbstractType[bytes]):  # type: ignore[misc]
    """The 16 bytes of an id."""

    @classmethod
    @override
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    @override
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


class MetadataResponseV10(Response):  # type: ignore[misc]
    """The first version with topic ids; aiokafka 0.14.0 ends at version 5."""

    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class MetadataRequestV10(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = MetadataResponseV10
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic_id", Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields)
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicIdsRequest(Request[MetadataRequest_v5 | MetadataRequestV10]):  # type: ignore[misc]
    """Metadata of topics, with their ids where the broker has them. It creates no topic."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = topics

    @override
    def build(
        self, request_struct_class: type[MetadataRequest_v5 | MetadataRequestV10]
    ) -> MetadataRequest_v5 | MetadataRequestV10:
        if request_struct_class is MetadataRequest_v5:
            return MetadataRequest_v5(list(self._topics), False)
        return MetadataRequestV10(
            [(NO_ID, topic, {}) for topic in self._topics], False, False, False, {}
        )


def name_of(cluster: str, topic_id: bytes) -> str:
    """The id of a log; that of the topic is written as Kafka's own tools write it."""
    if topic_id == NO_ID:
        return cluster
    return f"{cluster}/{base64.urlsafe_b64encode(topic_id).decode().rstrip('=')}"


def is_same_log(one: str, other: str) -> bool:
    """Whether two ids may be those of one log: one may be from a time when topics had no ids."""
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")


def ids_in(response: Any) -> dict[str, str]:
    """The log's id of each topic that a metadata response has without an error."""
    metadata = response.to_object()
    return {
        t["topic"]: name_of(str(metadata["cluster_id"]), t.get("topic_id", NO_ID))
        for t in metadata["topics"]
        if t["error_code"] == 0
    }


class LogIds:
    """The ids of the pipeline's logs, asked of the broker when needed and once a second.

    For one event loop. It has a connection of its own, because a broker answers the requests of a
    connection one after the other, and fetches wait for records.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin: AIOKafkaAdminClient | None = None
        self._asking = asyncio.Lock()
        self._ids: dict[str, str] = {}
        self._former: set[str] = set()

    def known(self, topic: str) -> str:
        """The last known id of a topic's log, without a request; empty before `confirm`."""
        return self._ids.get(topic, "")

    async def confirm(self, topic: str) -> str:
        """The id that the topic's log has now; waits while the broker or the topic is away.

        Ids are not used again. So a record that was read before this call is of the log whose id
        was known then, if that is also the id returned.
        """
        while True:
            with suppress(*AWAY):
                found = await self._ask()
                if topic in found:
                    return found[topic]
            await asyncio.sleep(RETRY_SECONDS)

    async def watch(self) -> None:
        """Keep `known` up to date, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            with suppress(*AWAY):
                await self._ask()

    async def aclose(self) -> None:
        """Disconnect. A later question connects again."""
        admin, self._admin = self._admin, None
        if admin is not None:
            with suppress(*AWAY):
                await admin.close()

    async def _ask(self) -> dict[str, str]:
        async with self._asking:
            try:
                async with asyncio.timeout(connection.ADMIN_REQUEST_SECONDS):
                    response = await self._request()
            except AWAY:
                await self.aclose()
                raise
        return self._note(ids_in(response))

    def _note(self, found: dict[str, str]) -> dict[str, str]:
        """Those of the ids that are current, which are known from now on.

        After a change, a broker with old metadata may still answer with the id of before.
        """
        current = {topic: log for topic, log in found.items() if log not in self._former}
        for topic, log in current.items():
            if not is_same_log(self._ids.get(topic, log), log):
                self._former.add(self._ids[topic])
            self._ids[topic] = log
        return current

    async def _request(self) -> Any:
        if self._admin is None:
            admin = connection.new_admin(self._settings)
            try:
                await admin.start()
            except BaseException:
                with suppress(*AWAY):
                    await admin.close()
                raise
            self._admin = admin
        return await self._admin._send_request(TopicIdsRequest(self._settings.names[:3]))
