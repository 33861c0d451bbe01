"""Topics with replicas on three brokers: they are created, checked and mended at the start."""

import asyncio
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import PolicyViolationError
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ConfigSource, ResourceType

from infra import config
from infra.broker import connection
from infra.broker.admin import _create
from infra.broker.fetcher import LeanConsumer, fetch_wait
from infra.broker.topic_configs import IncrementalAlter
from infra.config import Settings
from infra.errors import ConfigError, TopicMismatch
from infra.topics import DEAD_LETTERS, RESULTS, TASKS, Topic
from tests.infra.kafka.brokers import Brokers
from tests.processes import Pipeline, Process, settings_for, wait_until

kafka_only = pytest.mark.skipif(
    os.environ.get("TEST_BROKER") != "kafka", reason="needs Apache Kafka (make test-kafka)"
)
DURABLE = {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}


class Answer(NamedTuple):
    topic_errors: list[tuple[str, int, str]]


class ManagedCluster:
    """As an admin client sees it: topics may not have the configs `forbidden`."""

    def __init__(self, *forbidden: str) -> None:
        self.created: dict[str, dict[str, str]] = {}
        self._forbidden = forbidden

    async def list_topics(self) -> list[str]:
        return list(self.created)

    async def create_topics(self, topics: Sequence[NewTopic]) -> Answer:
        return Answer([self._create(topic) for topic in topics])

    def _create(self, topic: NewTopic) -> tuple[str, int, str]:
        if refused := set(self._forbidden) & set(topic.topic_configs):
            return topic.name, PolicyViolationError.errno, f"{min(refused)} is not allowed"
        self.created[topic.name] = topic.topic_configs
        return topic.name, 0, ""


def test_a_cluster_that_lets_nobody_set_the_election_gets_the_other_configs() -> None:
    cluster: Any = ManagedCluster("unclean.leader.election.enable")
    asyncio.run(
        _create(
            cluster, [Topic("tasks", 4, {**DURABLE, "retention.ms": "1"})], Settings(replication=3)
        )
    )
    assert cluster.created == {"tasks": {"min.insync.replicas": "2", "retention.ms": "1"}}


def test_a_cluster_that_forbids_another_config_is_reported_with_its_reason() -> None:
    cluster: Any = ManagedCluster("retention.ms")
    with pytest.raises(TopicMismatch) as raised:
        asyncio.run(
            _create(
                cluster,
                [Topic("tasks", 4, {**DURABLE, "retention.ms": "1"})],
                Settings(replication=3),
            )
        )
    assert str(raised.value) == (
        "the broker refuses to create the topic 'tasks': retention.ms is not allowed"
    )


def test_more_replicas_in_sync_than_there_are_cannot_be_asked_for() -> None:
    with pytest.raises(ConfigError, match="PETAL_MIN_INSYNC=2 cannot be used: with PETAL_REPLICA"):
        config.load({"PETAL_MIN_INSYNC": "2"})
    assert config.load({"PETAL_MIN_INSYNC": "2", "PETAL_REPLICATION": "2"}).in_sync == 2


def configs_of(settings: Settings, topic: str) -> dict[str, str]:
    """The configs that are set on the topic itself."""
    admin = AdminClient({"bootstrap.servers": settings.bootstrap})
    on_topic = ConfigSource.DYNAMIC_TOPIC_CONFIG.value

    def found() -> list[dict[str, str]]:
        """Nothing while the broker that is asked has not heard of the topic."""
        [future] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
        with suppress(KafkaException):
            entries = future.result(20).values()
            return [{e.name: e.value for e in entries if e.source == on_topic}]
        return []

    [configs] = wait_until(found, 30, f"the configs of {topic}")
    return dict(configs)


async def change(settings: Settings, topic: str, **configs: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    await admin.start()
    try:
        names = {name.replace("_", "."): value for name, value in configs.items()}
        response = await admin._send_to_controller(IncrementalAlter(topic, names))
        assert response.resources[0][0] == 0
    finally:
        await admin.close()


async def delete(settings: Settings, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic])
        async with asyncio.timeout(20):
            while topic in await admin.list_topics():
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


async def create_with_one_replica(settings: Settings, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, settings.partitions, 1)])
    finally:
        await admin.close()


async def committed_as_asked_of_each(settings: Settings, nodes: Iterable[int]) -> list[int]:
    """The offset that a group has committed, as its consumer finds it by asking each broker first.

    Two of three brokers do not coordinate the group, and answer with an error.
    """
    tp = TopicPartition(TASKS, 0)
    consumer = LeanConsumer(
        TASKS, bootstrap_servers=settings.bootstrap, group_id="reader",
        fetch_max_wait_ms=fetch_wait(settings),
    )  # fmt: skip
    await consumer.start()
    try:
        await consumer.commit({tp: 7})
        found = []
        for node in nodes:
            consumer._coordinator.coordinator_id = node
            committed = await consumer._coordinator.fetch_committed_offsets([tp])
            found.append(committed[tp].offset)
        return found
    finally:
        await consumer.stop()


async def topics_often(settings: Settings, times: int) -> set[str]:
    """The topics of all answers to many requests of one client; raises KafkaError at a failure."""
    admin = connection.new_admin(settings)
    await admin.start()
    try:
        return {topic for _ in range(times) for topic in await admin.list_topics()}
    finally:
        await admin.close()


def prepare(pipeline: Pipeline) -> Process:
    return pipeline.start(sys.executable, "-m", "infra.broker")


@pytest.fixture
def prepared(tmp_path: Path, artifact: Path) -> Iterator[tuple[Pipeline, Brokers]]:
    """Three brokers, of which the third one starts when the topics are to be created."""
    with Pipeline(tmp_path, settings_for(tmp_path, artifact)) as pipeline:
        brokers = Brokers(pipeline)
        pipeline.env |= {"PETAL_BROKER": brokers.bootstrap, "PETAL_REPLICATION": "3"}
        for node in (1, 2):
            brokers.start(node)
        waiting = prepare(pipeline).wait_for("petalstream: waiting for more brokers: ", 180)
        brokers.start(3)
        waiting.wait_for("broker ready", 60)
        yield pipeline, brokers


@kafka_only
@pytest.mark.timeout(300)
def test_topics_on_three_brokers_lose_no_record_with_one_of_them(
    prepared: tuple[Pipeline, Brokers],
) -> None:
    pipeline, brokers = prepared
    settings = config.load(pipeline.env)
    assert configs_of(settings, TASKS).items() >= DURABLE.items()
    wait_until(lambda: brokers.is_whole(TASKS, RESULTS, DEAD_LETTERS), 30, "three replicas")

    assert asyncio.run(committed_as_asked_of_each(settings, brokers.nodes)) == [7, 7, 7]

    asyncio.run(
        change(settings, TASKS, min_insync_replicas="1", unclean_leader_election_enable="true")
    )
    assert prepare(pipeline).wait_for("broker ready").output.splitlines()[0] == (
        "petalstream: set min.insync.replicas=2,unclean.leader.election.enable=false on the topic "
        "'tasks', which was created without it"
    )
    assert configs_of(settings, TASKS).items() >= DURABLE.items()

    asyncio.run(delete(settings, RESULTS))
    asyncio.run(create_with_one_replica(settings, RESULTS))
    refused = prepare(pipeline)
    assert (refused.join(60), refused.output) == (
        78,
        "petalstream: topic 'results' has 1 of 3 replicas; add replicas with "
        "kafka-reassign-partitions.sh, or set PETAL_REPLICATION=1 to do without them\n",
    )
    assert configs_of(settings, RESULTS) == {}

    brokers.processes[2].kill()
    assert asyncio.run(topics_often(settings, 20)) >= {RESULTS, TASKS, DEAD_LETTERS}
