"""Wait for the broker and create the topics."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count

from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidConfigurationError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    KafkaError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.structs import OffsetAndMetadata

from infra import topics
from infra.broker import access, connection, embedded, topic_configs
from infra.broker.access import OWNER, Needs
from infra.broker.admin_client import AdminClient
from infra.broker.security.login import login_of
from infra.config import Settings, variable
from infra.errors import BrokerUnavailable, TopicMismatch
from infra.log import report
from infra.topics import UNCLEAN_CONFIG, Topic, replicated, without

NOT_ALLOWED = (TopicAuthorizationFailedError.errno, ClusterAuthorizationFailedError.errno)
FIRST_BACKOFF, MAX_BACKOFF = 0.05, 2.0  # seconds
CHECKS, CHECK_SECONDS = 50, 0.1
# Between two tries to create a topic on more brokers than there are.
BROKERS_SECONDS, SILENT_ATTEMPTS = 0.5, 6
REFUSED_CONFIGS = (InvalidConfigurationError.errno, PolicyViolationError.errno)


class TooFewBrokers(TopicMismatch):
    """There are fewer brokers than replicas wanted, at least so far."""


def pipeline_topics(settings: Settings) -> tuple[Topic, Topic, Topic]:
    """The topics as the settings want them."""
    tasks, results, dead_letters = topics.topics(
        settings.names,
        settings.partitions,
        settings.tasks_retention_days,
        settings.results_retention_days,
        settings.dead_letters_retention_days,
    )
    replicas = settings.replication, settings.in_sync
    return (
        replicated(tasks, *replicas),
        replicated(results, *replicas),
        replicated(dead_letters, *replicas),
    )


def _until(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


async def _connect(settings: Settings, deadline: float) -> AdminClient:
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
            await _create_when_possible(admin, wanted, settings, deadline)
            await _check(admin, wanted, settings.replication)
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


async def has_members(settings: Settings, group: str) -> bool:
    """Whether a consumer group has a process on any machine; False also if it may not be asked.

    One that was killed counts until its session ends.
    """
    admin = connection.new_admin(settings)
    try:
        await admin.start()
        [response] = await admin.describe_consumer_groups([group])
    except (KafkaError, OSError):  # also if there has never been a group on this broker
        return False
    finally:
        await admin.close()
    return any(found["members"] for found in response.to_object()["groups"])


async def _create_when_possible(
    admin: AdminClient, wanted: Sequence[Topic], settings: Settings, deadline: float
) -> None:
    """Create what is missing. The brokers of a cluster that starts come one after the other."""
    for attempt in count():
        try:
            await _create(admin, wanted, settings)
            return
        except TooFewBrokers as e:
            if _until(deadline) <= BROKERS_SECONDS:
                raise
            if attempt == SILENT_ATTEMPTS:
                report(f"waiting for more brokers: {e}", logging.WARNING)
        await asyncio.sleep(BROKERS_SECONDS)


async def _create(admin: AdminClient, wanted: Sequence[Topic], settings: Settings) -> None:
    existing = set(await admin.list_topics()) if wanted else set()
    missing = [t for t in wanted if t.name not in existing]
    refused = await _try_to_create(admin, missing, settings)
    # Some managed clusters let nobody set it. `topic_configs` looks whether it is false there.
    plain = [without(t, UNCLEAN_CONFIG) for t in missing if t.name in refused]
    for name, message in (await _try_to_create(admin, plain, settings)).items():
        raise TopicMismatch(f"the broker refuses to create the topic {name!r}: {message}")


async def _try_to_create(
    admin: AdminClient, missing: Sequence[Topic], settings: Settings
) -> dict[str, str]:
    """Returns the topics of which the broker refuses the configs, and why."""
    if not missing:
        return {}
    replication = settings.replication
    response = await admin.create_topics(
        [NewTopic(t.name, t.partitions, replication, topic_configs=t.config) for t in missing]
    )
    refused = {}
    for name, code, message in ((e[0], e[1], e[-1]) for e in response.topic_errors):
        # Several processes start at once, and another one may have created the topic.
        if code in (InvalidReplicationFactorError.errno, InvalidPartitionsError.errno):
            kind = TooFewBrokers if code == InvalidReplicationFactorError.errno else TopicMismatch
            raise kind(
                f"the broker refuses {variable('replication')}={replication} or "
                f"{variable('partitions')} of topic {name!r}: {message}"
            )
        if code in NOT_ALLOWED:
            raise access.may_not_create(settings, [t.name for t in missing])
        if code in REFUSED_CONFIGS:
            refused[name] = str(message)
        elif code not in (0, TopicAlreadyExistsError.errno):
            raise for_code(code)(f"topic {name}: {message}")
    return refused


async def _check(admin: AdminClient, wanted: Sequence[Topic], replication: int) -> None:
    for _ in range(CHECKS):  # a new topic takes a moment to have its leaders
        found = {d["topic"]: d for d in await admin.describe_topics([t.name for t in wanted])}
        if all(found[t.name]["error_code"] == 0 for t in wanted):
            break
        await asyncio.sleep(CHECK_SECONDS)
    for topic in wanted:
        partitions = found[topic.name]["partitions"]
        count = len(partitions)
        if count != topic.partitions:
            raise mismatch(topic.name, count, topic.partitions)
        replicas = min(len(partition["replicas"]) for partition in partitions)
        if replicas < replication:
            raise TopicMismatch(
                f"topic {topic.name!r} has {replicas} of {replication} replicas; add replicas with "
                "kafka-reassign-partitions.sh, or set "
                f"{variable('replication')}={replicas} to do without them"
            )
