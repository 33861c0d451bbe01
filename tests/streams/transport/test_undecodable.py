"""Records that a producer compressed are read; a batch that cannot be decoded costs itself alone.

With real processes and a real broker, in every reader: worker, sink, client and maintenance.
"""

import asyncio
import gzip
import json
import os
from collections.abc import Sequence
from typing import Any

import cramjam
import pytest
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from infra.config import Settings
from infra.topics import DEAD_LETTERS, MAX_BATCH_BYTES, RESULTS, TASKS
from streams.client import Client, encode_task
from streams.events import new_id
from tests.infra.broker.batches import HEADER_BYTES, batch, with_bad_header_name, with_codec
from tests.processes import Pipeline, wait_until
from tests.streams.test_pipeline import (
    IRIS,
    publish,
    read_rows,
    read_topic,
    rows_for,
    settings_of,
    wait_for_rows,
)

KAFKA = os.environ.get("TEST_BROKER") == "kafka"
BIG = batch(0, 1, value=b"0" * (2 * MAX_BATCH_BYTES))
HEADER_NAME = with_bad_header_name(0, 3)
BOMB = with_codec(BIG, 4, bytes(cramjam.zstd.compress(BIG[HEADER_BYTES:])))
BAD = {"a record has a header name that is not UTF-8": HEADER_NAME}
BAD[f"it has over {MAX_BATCH_BYTES:,} bytes after decompression, the limit"] = BOMB
if not KAFKA:  # which refuses these from producers
    plain = batch(0, 3)
    half = gzip.compress(plain[HEADER_BYTES:])[:-9]
    BAD["its checksum does not match: it is damaged"] = plain[:-1] + b"!"
    early = "it cannot be decompressed: its gzip data ends too early"
    BAD[early] = with_codec(plain, 1, half)


def write_raw(settings: Settings, topic: str, partition: int, batches: Sequence[bytes]) -> None:
    """Publish batches as they are, as a producer with a fault would."""

    async def run() -> None:
        client = AIOKafkaClient(bootstrap_servers=settings.bootstrap)
        await client.bootstrap()
        try:
            await client.set_topics([topic])
            leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            for data in batches:
                request = ProduceRequest(None, -1, 10_000, [(topic, [(partition, data)])])
                async with asyncio.timeout(20):
                    while (code := await send(client, leader, request)) != 0:
                        assert code == 6, code  # a new topic has no leader for a moment
                        await asyncio.sleep(0.05)
        finally:
            await client.close()

    async def send(client: Any, leader: int, request: ProduceRequest) -> int:
        response = await client.send(leader, request)
        return int(response.topics[0][1][0][1])

    asyncio.run(run())


def produce_compressed(settings: Settings, codec: str, count: int) -> list[str]:
    """Publish tasks by librdkafka with a codec, in batches; returns their ids."""
    producer = Producer(
        {"bootstrap.servers": settings.bootstrap, "compression.codec": codec, "linger.ms": 50}
    )
    ids = [new_id() for _ in range(count)]
    for n, task_id in enumerate(ids):
        producer.produce(TASKS, encode_task([IRIS[n % 3]], task_id), key=task_id, partition=n % 4)
    assert producer.flush(20) == 0
    return ids


def test_tasks_of_every_codec_are_answered(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    if KAFKA:  # then our own results are compressed by the broker
        admin = AdminClient({"bootstrap.servers": settings.bootstrap})
        entry = ConfigEntry("compression.type", "zstd", incremental_operation=AlterConfigOpType.SET)
        for topic in (RESULTS, DEAD_LETTERS):
            resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
            for done in admin.incremental_alter_configs([resource]).values():
                done.result()
    pipeline.sink(ready=False)
    pipeline.worker()
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")
    asked = [task_id for codec in codecs for task_id in produce_compressed(settings, codec, 20)]

    async def ask() -> list[Any] | None:
        async with Client(settings) as client:
            assert (await client.wait(asked[-1], timeout=30)).id == asked[-1]
            return (await client.ask([IRIS[0]], timeout=30)).y

    assert asyncio.run(ask()) == ["setosa"]
    wait_for_rows(settings, len(asked) + 1)
    assert set(asked) < {row["task_id"] for row in read_rows(settings)}
    assert read_topic(settings, DEAD_LETTERS) == []


def headers_of(letter: Any) -> dict[str, str]:
    return {name: value.decode() for name, value in letter.headers}


def test_each_batch_that_cannot_be_decoded_is_one_dead_letter_and_all_else_goes_on(
    pipeline: Pipeline,
) -> None:
    settings = settings_of(pipeline)
    before = publish(settings, rows_for(20))
    for data in BAD.values():
        write_raw(settings, TASKS, 0, [data])
        publish(settings, rows_for(5))
    write_raw(settings, TASKS, 1, [HEADER_NAME])
    write_raw(settings, RESULTS, 0, list(BAD.values()))
    asked = len(before) + 5 * len(BAD)
    worker = pipeline.worker(ready=False)
    sink = pipeline.sink(ready=False)
    wait_for_rows(settings, asked)
    expected = len(BAD) + 1

    def letters() -> list[dict[str, str]]:
        return [headers_of(letter) for letter in read_topic(settings, DEAD_LETTERS)]

    wait_until(lambda: len(letters()) >= expected, 30, "the dead letters")
    found = letters()
    assert len(found) == expected
    assert {letter["petal-reason"] for letter in found} == {"undecodable_batch"}
    assert {(letter["petal-topic"], letter["petal-partition"]) for letter in found} == {
        (TASKS, "0"), (TASKS, "1")
    }  # fmt: skip
    assert {letter["petal-detail"] for letter in found} == set(BAD)
    for letter in found:
        count = 1 if "decompression, the limit" in letter["petal-detail"] else 3
        assert int(letter["petal-last-offset"]) - int(letter["petal-offset"]) == count - 1
    assert (worker.exit_code, sink.exit_code) == (None, None)

    async def ask() -> list[Any] | None:
        async with Client(settings) as client:
            task = await client.submit([IRIS[0]])
            return (await client.wait(task.id, timeout=30)).y  # reads all of `results`

    assert asyncio.run(ask()) == ["setosa"]
    wait_for_rows(settings, asked + 1)
    check_maintenance(pipeline, asked + 1)
    write_raw(settings, DEAD_LETTERS, 0, [HEADER_NAME])
    listed = pipeline.run("dead-letters", "list", "--json").stdout.splitlines()
    reasons = [json.loads(line)["reason"] for line in listed]
    assert reasons == ["undecodable_batch"] * (expected + 1)
    assert sink.stop() == 0
    rebuilt = json.loads(pipeline.run("rebuild", "--json").stdout)
    assert (rebuilt["new"], rebuilt["unreadable"]) == (asked + 1, len(BAD))


def check_maintenance(pipeline: Pipeline, rows: int) -> None:
    verified = json.loads(pipeline.run("verify", "--json").stdout)
    assert (verified["agrees"], verified["records"]) == (True, rows + len(BAD))
    assert len(verified["undecodable"]) == len(BAD)
    assert all(place.startswith("results[0]:") for place in verified["undecodable"])
    reconciled = json.loads(pipeline.run("reconcile", "--older-than", "0s", "--json").stdout)
    assert (reconciled["tasks"], len(reconciled["undecodable"])) == ([], 2 * len(BAD) + 1)
    shown = pipeline.run("dead-letters", "show", "0")
    assert "detail:" in shown.stdout
    replayed = pipeline.run("dead-letters", "replay", "--all", "--yes")
    assert replayed.stdout == "0 republished\n"
    assert replayed.stderr == f"{len(BAD) + 1} skipped: batches that could not be decoded\n"


@pytest.mark.skipif(not KAFKA, reason="the embedded broker keeps its log in memory")
def test_a_batch_that_is_damaged_on_the_brokers_disk_is_set_aside(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    write_raw(settings, TASKS, 2, [batch(0, 4), batch(0, 3), batch(0, 2)])
    [segment] = (pipeline.folder / "kafka" / "data").glob("tasks-2/*0.log")
    stored = bytearray(segment.read_bytes())
    stored[stored.index(b"k0", len(batch(0, 4)))] ^= 1
    with segment.open("r+b") as file:
        file.write(stored)
    pipeline.worker()

    def letters() -> list[dict[str, str]]:
        return [headers_of(letter) for letter in read_topic(settings, DEAD_LETTERS)]

    found = wait_until(lambda: len(letters()) == 4 + 1 + 2 and letters(), 30, "the dead letters")
    [bad] = [letter for letter in found if letter["petal-reason"] == "undecodable_batch"]
    assert (bad["petal-offset"], bad["petal-last-offset"]) == ("4", "6")
    assert bad["petal-detail"] == "its checksum does not match: it is damaged"
