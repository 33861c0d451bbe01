"""Partitions that are added to topics with records: nothing is lost, and no task has two rows."""

import asyncio
import os

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from infra.config import Settings
from streams.client import Client
from tests.processes import Pipeline
from tests.streams.maintenance.test_verify import verified
from tests.streams.test_pipeline import publish, read_topic, rows_for, settings_of, wait_for_rows

pytestmark = pytest.mark.skipif(
    os.environ.get("TEST_BROKER") != "kafka", reason="the embedded broker adds no partitions"
)
MORE = 7


def add_partitions(settings: Settings) -> None:
    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
        await admin.start()
        try:
            topics = (settings.names.results, settings.names.tasks)
            await admin.create_partitions({topic: NewPartitions(MORE) for topic in topics})
        finally:
            await admin.close()

    asyncio.run(run())


def send_again(settings: Settings, asked: dict[str, list[float]]) -> set[int]:
    """Send the tasks under their ids again; returns their partitions."""

    async def run() -> set[int]:
        async with Client(settings) as client:
            sent = [client.submit([row], task_id) for task_id, row in asked.items()]
            return {done.partition for done in await asyncio.gather(*sent)}

    return asyncio.run(run())


def test_added_partitions_are_refused_until_the_settings_name_them(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    worker, sink = pipeline.worker(), pipeline.sink()
    asked = publish(settings, rows_for(60))
    wait_for_rows(settings, 60)
    assert (worker.stop(), sink.stop()) == (0, 0)
    waiting = publish(settings, rows_for(60))
    add_partitions(settings)
    sentence = "has 7 partitions, the settings want 4; set PETAL_PARTITIONS=7"
    refused = [pipeline.worker(ready=False), pipeline.sink(ready=False)]
    for process in refused:
        assert process.join(30) == 78
        assert sentence in process.output
    assert sentence in pipeline.run("results").stderr + pipeline.run("verify").stderr

    pipeline.env["PETAL_PARTITIONS"] = str(MORE)
    settings = settings_of(pipeline)
    pipeline.worker(ready=False)
    pipeline.sink(ready=False)
    assert max(send_again(settings, asked)) >= 4  # another place than the first time
    fresh = publish(settings, rows_for(60))
    wait_for_rows(settings, 180)
    everything = asked | waiting | fresh
    assert {r.key.decode() for r in read_topic(settings, settings.names.results)} == {*everything}
    code, found = verified(pipeline)
    assert (code, found["missing"], found["conflicts"]) == (0, [], 0)
    assert pipeline.run("status", "--wait", "30").returncode == 0
