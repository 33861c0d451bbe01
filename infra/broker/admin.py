"""Wait for the broker and create the topics."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.structs import OffsetAndMetadata

from infra import topics
from infra.broker import access, connection, embedded, topic_configs
from infra.broker.access import OWNER, Needs
from infra.broker.security.login import login_of
from infra.config import Settings, variable
from infra.errors import BrokerUnavailable, TopicMismatch
from infra.log import report
from infra.topics import Topic

NOT_ALLOWED = (TopicAuthorizationFailedError.errno, ClusterAuthorizationFailedError.errno)
FIRST_BACKOFF, MAX_BACKOFF = 0.05, 2.0  # seconds
CHECKS, CHECK_SECONDS = 50, 0.1


def pipeline_topics(settings: Settings) -> tuple[Topic, Topic, Topic]:
    """The topics as the settings want them."""
    return topics.topics(
        settings.names,
        settings.partitions,
        settings.tasks_retention_days,
        settings.results_retention_days,
        settings.dead_letters_retention_days,
    )


def _until(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


async def _connect(settings: Settings, deadline: float) -> AIOKafkaAdminClient:
    backoff = FIRST_BACKOFF
    reported = False
    while True:
        admin = connection.new_admin(settings)
        try:
            await asyncio.wait_for(admin.start(), max(0.1, _until(deadline)))
            return admin
        except (KafkaError, OSError, TimeoutError, ValueError) as e:
            with suppress(KafkaError, OSError):
                await admin.close()
            if _until(deadline) <= backoff:
                raise BrokerUnavailable(
                    login_of(settings).away
                    or f"no Kafka broker at {settings.bootstrap} ({type(e).__name__}); "
                    "start one (petal up) or set PETAL_BROKER"
                ) from e
        if not reported and backoff >= 0.4:  # no line for a broker that starts quickly
            awaited = login_of(settings).away or f"the broker at {settings.bootstrap}"
            report(f"waiting for {awaited}", logging.WARNING)
            reported = True
        await asyncio.sleep(backoff)
        backoff = min(MAX_BACKOFF, backoff * 2)


async def prepare(settings: Settings, wait: float | None = None, needs: Needs = OWNER) -> str:
    """Wait for the broker, create missing topics, check the others; returns the cluster id.

    Only the topics among `needs` are looked at. `wait` is in seconds; the default is the setting
    `broker_wait`. Raises BrokerUnavailable after that time, AccessRefused, or TopicMismatch. Call
    it before any consumer or producer starts: the embedded broker creates a topic, with its own
    partition count, when a client requests its metadata.
    """
    # aiokafka logs every refused connection. Here they are expected, and reported once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    deadline = time.monotonic() + (settings.broker_wait if wait is None else wait)
    admin = await _connect(settings, deadline)
    try:
        async with asyncio.timeout(max(1.0, _until(deadline))):
            names = {getattr(settings.names, name) for name in needs.topics}
            wanted = [t for t in pipeline_topics(settings) if t.name in names]
            await access.check(admin, settings, needs)
            await _create(admin, wanted, settings)
            await _check(admin, wanted)
            cluster = str((await admin.describe_cluster())["cluster_id"])
            if not embedded.is_embedded(cluster):  # that one has no configs
                await topic_configs.correct(admin, wanted, settings.bootstrap)
            return cluster
    except (KafkaError, TimeoutError) as e:
        if refusal := login_of(settings).refusal:
            raise refusal from e
        raise BrokerUnavailable(
            f"the broker at {settings.bootstrap} does not answer as a Kafka broker: {e!r}"
        ) from e
    finally:
        await admin.close()
        logging.getLogger("aiokafka").setLevel(logging.WARNING)


def mismatch(topic: str, found: int, wanted: int) -> TopicMismatch:
    """The error of a topic that has another number of partitions than the settings want."""
    return TopicMismatch(
        f"topic {topic!r} has {found} partitions, the settings want {wanted}; "
        f"set {variable('partitions')}={found} or use another broker"
    )


async def committed(
    settings: Settings, group: str, topic: Topic
) -> Mapping[int, OffsetAndMetadata]:
    """What a group has committed of a topic's partitions; raises KafkaError, OSError."""
    admin = connection.new_admin(settings)
    try:
        await admin.start()
        tps = [TopicPartition(topic.name, p) for p in range(topic.partitions)]
        found = await admin.list_consumer_group_offsets(group, partitions=tps)
    finally:
        await admin.close()
    return {tp.partition: one for tp, one in found.items() if one.offset >= 0}


async def _create(admin: AIOKafkaAdminClient, wanted: Sequence[Topic], settings: Settings) -> None:
    existing = set(await admin.list_topics()) if wanted else set()
    missing = [t for t in wanted if t.name not in existing]
    if not missing:
        return
    replication = settings.replication
    response = await admin.create_topics(
        [NewTopic(t.name, t.partitions, replication, topic_configs=t.config) for t in missing]
    )
    for name, code, message in ((e[0], e[1], e[-1]) for e in response.topic_errors):
        # Several processes start at once, and another one may have created the topic.
        if code in (InvalidReplicationFactorError.errno, InvalidPartitionsError.errno):
            raise TopicMismatch(
                f"the broker refuses {variable('replication')}={replication} or "
                f"{variable('partitions')} of topic {name!r}: {message}"
            )
        if code in NOT_ALLOWED:
            raise access.may_not_create(settings, [t.name for t in missing])
        if code not in (0, TopicAlreadyExistsError.errno):
            raise for_code(code)(f"topic {name}: {message}")


async def _check(admin: AIOKafkaAdminClient, wanted: Sequence[Topic]) -> None:
    for _ in range(CHECKS):  # a new topic takes a moment to have its leaders
        found = {d["topic"]: d for d in await admin.describe_topics([t.name for t in wanted])}
        if all(found[t.name]["error_code"] == 0 for t in wanted):
            break
        await asyncio.sleep(CHECK_SECONDS)
    for topic in wanted:
        count = len(found[topic.name]["partitions"])
        if count != topic.partitions:
            raise mismatch(topic.name, count, topic.partitions)
