"""What a topic needs that was created without our configs, and what happens without that."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from infra import config
from infra.broker.topic_configs import IncrementalAlter, deviations
from infra.config import Settings
from infra.topics import DEAD_LETTERS, RESULTS, TASKS, names, topics
from streams.client import encode_task
from streams.events import new_id
from tests.processes import Pipeline, settings_for, wait_until
from tests.streams.logs.test_recreated_logs import read_answers, wait_for_rows

kafka_only = pytest.mark.skipif(
    os.environ.get("TEST_BROKER") != "kafka", reason="the embedded broker has no topic configs"
)
WANTED = topics(names(""), 4, 7, -1, 30)[0].config
DURABLE = {**WANTED, "min.insync.replicas": "2", "unclean.leader.election.enable": "false"}
KAFKAS_DEFAULTS = {"min.insync.replicas": "1", "unclean.leader.election.enable": "false"}
AS_OF_1970_MS = 5


@pytest.mark.parametrize(
    ("found", "missing"),
    [
        (WANTED, {}),
        ({}, {}),
        (
            {"message.timestamp.type": "CreateTime", "max.message.bytes": "1048588"},
            {"message.timestamp.type": "LogAppendTime"},
        ),
        ({**WANTED, "max.message.bytes": "1000"}, {"max.message.bytes": "1004096"}),
        ({**WANTED, "retention.ms": "1"}, {}),
        ({**WANTED, **KAFKAS_DEFAULTS}, {}),
    ],
)
def test_only_what_would_lose_records_is_missing(
    found: dict[str, str], missing: dict[str, str]
) -> None:
    assert deviations(found, WANTED) == missing


@pytest.mark.parametrize(
    ("found", "missing"),
    [
        (DURABLE, {}),
        ({**DURABLE, "min.insync.replicas": "3"}, {}),
        ({**DURABLE, **KAFKAS_DEFAULTS}, {"min.insync.replicas": "2"}),
        (
            {**DURABLE, "unclean.leader.election.enable": "true"},
            {"unclean.leader.election.enable": "false"},
        ),
    ],
)
def test_only_what_would_lose_records_of_replicas_is_missing(
    found: dict[str, str], missing: dict[str, str]
) -> None:
    assert deviations(found, DURABLE) == missing


def test_a_change_names_only_the_configs_that_it_changes() -> None:
    request = IncrementalAlter("tasks", {"retention.ms": "1"}).prepare({44: (0, 1)})
    assert request.to_object() == {
        "resources": [
            {
                "resource_type": 2,
                "resource_name": "tasks",
                "configs": [{"name": "retention.ms", "operation": 0, "value": "1"}],
            }
        ],
        "validate_only": False,
    }


@pytest.fixture
def strict(tmp_path: Path, artifact: Path) -> Iterator[Pipeline]:
    """Apache Kafka with access control that deletes expired records at once."""
    with Pipeline(tmp_path, settings_for(tmp_path, artifact)) as pipeline:
        pipeline.kafka(
            "log.retention.check.interval.ms=500",
            "log.initial.task.delay.ms=500",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found=true",
        )
        yield pipeline


async def create(settings: Settings, *new: NewTopic) -> None:
    """Create topics in place of those of the same names."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    await admin.start()
    try:
        names = {topic.name for topic in new}
        await admin.delete_topics(sorted(names & set(await admin.list_topics())))
        async with asyncio.timeout(20):
            while names & set(await admin.list_topics()):
                await asyncio.sleep(0.05)
        assert [e[1] for e in (await admin.create_topics(list(new))).topic_errors] == [0] * len(new)
    finally:
        await admin.close()


def deny_changes(settings: Settings, topic: str) -> None:
    """Forbid everybody to change the configs of a topic."""
    acls = [
        AclBinding(
            ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*",
            operation, permission,
        )
        for operation, permission in [
            (AclOperation.ALL, AclPermissionType.ALLOW),
            (AclOperation.ALTER_CONFIGS, AclPermissionType.DENY),
        ]
    ]  # fmt: skip
    admin = AdminClient({"bootstrap.servers": settings.bootstrap})
    for created in admin.create_acls(acls).values():
        created.result(timeout=10)
    wanted = AclBindingFilter(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, None, None,
        AclOperation.ANY, AclPermissionType.ANY,
    )  # fmt: skip
    # A broker takes a moment to learn of them.
    wait_until(lambda: len(admin.describe_acls(wanted).result(10)) == len(acls), 20, "the ACLs")


def prepare(pipeline: Pipeline) -> list[str]:
    """What `python -m infra.broker` prints until it is ready."""
    started = pipeline.start(sys.executable, "-m", "infra.broker")
    return started.wait_for("broker ready").output.splitlines()[:-1]


@kafka_only
def test_topics_of_kafkas_defaults_get_what_they_need_or_a_command(strict: Pipeline) -> None:
    settings = config.load(strict.env)
    plain = [NewTopic(TASKS, 4, 1), NewTopic(RESULTS, 4, 1), NewTopic(DEAD_LETTERS, 1, 1)]
    assert prepare(strict) == []
    asyncio.run(create(settings, *plain))
    deny_changes(settings, RESULTS)
    lines = sorted(prepare(strict))
    assert lines == [
        "petalstream: set message.timestamp.type=LogAppendTime on the topic 'tasks', which was "
        "created without it",
        "petalstream: set message.timestamp.type=LogAppendTime,max.message.bytes=4004096 on the "
        "topic 'dead-letters', which was created without it",
        "petalstream: topic 'results' needs message.timestamp.type=LogAppendTime,"
        "max.message.bytes=4004096, or accepted records may be lost, and it cannot be set from "
        "here (TopicAuthorizationFailedError); run: kafka-configs.sh --bootstrap-server "
        f"{settings.bootstrap} --alter --entity-type topics --entity-name results --add-config "
        "message.timestamp.type=LogAppendTime,max.message.bytes=4004096",
    ]
    assert [line for line in prepare(strict) if "results" not in line] == []


async def publish_as_of_1970(settings: Settings, topic: str, count: int) -> set[str]:
    ids = [new_id() for _ in range(count)]
    async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap) as producer:
        for task_id in ids:
            value = encode_task([[5.1, 3.5, 1.4, 0.2]], task_id)
            await producer.send_and_wait(
                topic, value, key=task_id.encode(), timestamp_ms=AS_OF_1970_MS
            )
    return set(ids)


async def wait_until_deleted(settings: Settings, topic: str, count: int) -> None:
    """Wait until a partition has lost its first records to retention."""
    tp = TopicPartition(topic, 0)
    async with (
        AIOKafkaConsumer(bootstrap_servers=settings.bootstrap) as consumer,
        asyncio.timeout(60),
    ):
        while (await consumer.beginning_offsets([tp]))[tp] < count:
            await asyncio.sleep(0.2)


@kafka_only
def test_tasks_with_an_old_record_time_wait_for_their_workers(strict: Pipeline) -> None:
    settings = config.load(strict.env)

    async def publish() -> set[str]:
        await create(settings, NewTopic("kafkas-defaults", 1, 1))
        ids = await publish_as_of_1970(settings, TASKS, 10)
        await publish_as_of_1970(settings, "kafkas-defaults", 1)
        await wait_until_deleted(settings, "kafkas-defaults", 1)
        return ids

    ids = asyncio.run(publish())
    strict.worker()
    strict.sink()
    wait_for_rows(settings, ids)
    assert asyncio.run(read_answers(settings)) == ids
