"""Logs that are made anew under a running pipeline, already longer than what was read of the old.

On the embedded broker each start is a new log; on Apache Kafka a topic is deleted and created.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from infra import config
from infra.broker import admin
from infra.config import Settings
from infra.process import ports
from infra.topics import RESULTS, TASKS
from streams.client import Client, encode_task
from streams.codec import decode_result
from streams.events import Result, new_id
from streams.maintenance.scan import open_log
from streams.projection.reader import Reader
from tests.processes import Pipeline, Process, wait_until

BEFORE, AFTER, ASKED = 2000, 6000, 50
DRAIN_SECONDS = 60.0
ROW = [5.1, 3.5, 1.4, 0.2]


async def publish(settings: Settings, count: int) -> set[str]:
    """Write tasks as fast as the broker takes them; returns the ids of those that it confirmed."""
    ids = [new_id() for _ in range(count)]
    async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap) as producer:
        sent = [
            await producer.send(TASKS, encode_task([ROW], task_id), key=task_id.encode())
            for task_id in ids
        ]
        await asyncio.gather(*sent)
    return set(ids)


async def read_answers(settings: Settings) -> set[str]:
    async with open_log(settings, RESULTS) as log:
        return {
            decode_result(record.value).id async for part in log.chunks() for record in part.records
        }


def row_ids(settings: Settings) -> set[str]:
    with Reader(settings.database) as reader:
        return {row["task_id"] for row in reader.rows()}


def wait_for_rows(settings: Settings, ids: set[str]) -> None:
    def missing() -> set[str]:
        return ids - row_ids(settings)

    try:
        wait_until(lambda: not missing(), DRAIN_SECONDS, "all rows")
    except AssertionError:
        left = missing()
        raise AssertionError(f"{len(left)} of {len(ids)} tasks have no row") from None


async def recreate(settings: Settings, *topics: str) -> None:
    """Delete topics and create them, as an operator might."""
    client = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    await client.start()
    try:
        await client.delete_topics(list(topics))
        async with asyncio.timeout(20):
            while set(topics) & set(await client.list_topics()):
                await asyncio.sleep(0.05)
    finally:
        await client.close()
    await admin.prepare(settings)


def restart_amid_a_burst(pipeline: Pipeline, broker: Process) -> None:
    """kill -9 the embedded broker while tasks are answered, and start it again at once."""
    settings = config.load(pipeline.env)
    asyncio.run(publish(settings, BEFORE))
    broker.kill()
    port = settings.embedded_port
    wait_until(lambda: not ports.is_taken(port), 10, "the end of the broker")
    pipeline.broker()


def check_that_all_are_answered_after(
    pipeline: Pipeline, make_anew: Callable[[Settings], None]
) -> None:
    settings = config.load(pipeline.env)
    worker, sink = pipeline.worker(), pipeline.sink()

    async def run() -> tuple[set[str], set[str], list[Result]]:
        async with Client(settings) as client:
            await client.ask([ROW], timeout=30)
            old = await publish(settings, BEFORE)
            await asyncio.to_thread(wait_for_rows, settings, old)
            await asyncio.to_thread(make_anew, settings)
            new = await publish(settings, AFTER)
            asked = [client.ask([ROW], timeout=40) for _ in range(ASKED)]
            return old, new, list(await asyncio.gather(*asked))

    old, new, results = asyncio.run(run())
    new |= {result.id for result in results}
    wait_for_rows(settings, old | new)
    assert new <= asyncio.run(read_answers(settings))
    assert (worker.exit_code, sink.exit_code) == (None, None)
    verified = pipeline.run("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_every_task_that_a_restarted_embedded_broker_accepts_is_answered(
    pipeline: Pipeline,
) -> None:
    if os.environ.get("TEST_BROKER") == "kafka":
        pytest.skip("Apache Kafka keeps its log")
    broker: Any = pipeline.processes[0]
    check_that_all_are_answered_after(pipeline, lambda _: restart_amid_a_burst(pipeline, broker))


def test_every_result_of_a_recreated_topic_is_stored_by_a_sink_in_no_group(
    pipeline: Pipeline,
) -> None:
    pipeline.env["PETAL_PROJECTION"] = "own"
    check_that_all_are_answered_after(
        pipeline, lambda settings: asyncio.run(recreate(settings, RESULTS))
    )


@pytest.mark.parametrize("topics", [(TASKS,), (RESULTS,), (TASKS, RESULTS)], ids="+".join)
def test_every_task_of_a_recreated_topic_is_answered(
    pipeline: Pipeline, topics: tuple[str, ...]
) -> None:
    check_that_all_are_answered_after(
        pipeline, lambda settings: asyncio.run(recreate(settings, *topics))
    )
