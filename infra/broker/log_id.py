"""Which log a topic's name stands for at the moment. Offsets belong to a log, not to a name.

A topic that is deleted and created again has a new log. So have all topics of a broker that lost
its data. Apache Kafka since 2.8 and the embedded broker give each topic an id, which
they never use again; older brokers give only the cluster's id, which shows less.
"""

import asyncio
import base64
from contextlib import suppress
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from infra.broker import connection
from infra.broker.metadata import NO_ID, TopicIdsRequest
from infra.config import Settings
from infra.errors import AccessRefused

CHECK_SECONDS = 1.0
RETRY_SECONDS = 0.2
# How a missing broker shows itself. One that refuses a login is asked again, too: a running process
# ends by `Login.lasting_refusal`.
AWAY = (KafkaError, OSError, TimeoutError, ValueError, AccessRefused)


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
