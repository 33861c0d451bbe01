"""Records of producers with transactions: committed ones are answered, and no others.

On Apache Kafka only: the embedded broker does not say which transactions were aborted, and never
ends one whose producer died. `make test-kafka` runs these tests.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import Producer

from infra.config import Settings
from infra.process import status
from infra.topics import RESULTS, SINK_GROUP, TASKS, WORKER_GROUP
from streams.client import Client, encode_task
from streams.events import new_id
from tests import processes
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

pytestmark = pytest.mark.skipif(
    os.environ.get("TEST_BROKER") != "kafka",
    reason="the embedded broker has no complete transactions (make test-kafka)",
)
STALL_SECONDS = 6.0


@pytest.fixture
def pipeline(tmp_path: Path, artifact: Path) -> Iterator[Pipeline]:
    """A pipeline on Kafka whose watchdogs are impatient."""
    settings = processes.settings_for(tmp_path, artifact)
    settings["PETAL_STALL_TIMEOUT"] = str(STALL_SECONDS)
    with Pipeline(tmp_path, settings) as p:
        p.kafka()
        yield p


class Transactions:
    """A producer of tasks with transactions."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._producer = Producer(
            {"bootstrap.servers": settings.bootstrap, "transactional.id": name}
        )
        self._producer.init_transactions(30)

    def begin(self, count: int, partition: int = 0, topic: str = TASKS) -> list[str]:
        """Publish tasks and leave their transaction open; returns their ids."""
        ids = [new_id() for _ in range(count)]
        self._producer.begin_transaction()
        for task_id in ids:
            self._producer.produce(
                topic, encode_task([IRIS[0]], task_id), key=task_id, partition=partition
            )
        assert self._producer.flush(20) == 0
        return ids

    def commit(self) -> None:
        self._producer.commit_transaction(20)

    def abort(self) -> None:
        self._producer.abort_transaction(20)


def lags(settings: Settings) -> dict[str, int]:
    """The lag that each group reports in its status files."""
    return {found.group: found.lag for found in status.read_all(settings.status)}


def group_lag(settings: Settings, group: str, topic: str) -> int:
    """The lag that the tools of Kafka show: log ends less committed offsets."""

    async def run() -> int:
        async with AIOKafkaConsumer(
            bootstrap_servers=settings.bootstrap, group_id=group, enable_auto_commit=False
        ) as consumer:
            tps = [TopicPartition(topic, p) for p in range(settings.partitions)]
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            offsets = {tp: await consumer.committed(tp) for tp in tps if ends[tp]}
            return sum(ends[tp] - (offset or 0) for tp, offset in offsets.items())

    return asyncio.run(run())


def answered(settings: Settings) -> set[str]:
    return {record.key.decode() for record in read_topic(settings, RESULTS)}


def test_committed_tasks_are_answered_and_aborted_ones_are_not(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    transactions = Transactions(settings, "one")
    aborted, committed = [], []
    for partition in (0, 1, 0):
        aborted += transactions.begin(20, partition)
        transactions.abort()
        committed += transactions.begin(15, partition)
        transactions.commit()
    aborted += transactions.begin(5, partition=2)  # nothing else is in this partition
    transactions.abort()
    worker = pipeline.worker(ready=False)
    sink = pipeline.sink(ready=False)
    # Its marker follows the last record in `results` for ever.
    publisher = Transactions(settings, "results")
    wait_for_rows(settings, len(committed))
    publisher.begin(1, topic=RESULTS)
    publisher.abort()
    assert answered(settings) == set(committed)
    assert {row["task_id"] for row in read_rows(settings)} == set(committed)
    wait_until(
        lambda: lags(settings) == {WORKER_GROUP: 0, SINK_GROUP: 0}, 30, "no lag behind markers"
    )
    groups = [(WORKER_GROUP, TASKS), (SINK_GROUP, RESULTS)]

    def is_read() -> bool:
        return all(group_lag(settings, group, topic) == 0 for group, topic in groups)

    wait_until(is_read, 30, "no lag for Kafka's tools")
    reconciled = pipeline.run("reconcile", "--older-than", "0s", "--json")
    assert json.loads(reconciled.stdout) == {"published": True, "tasks": []}
    assert json.loads(pipeline.run("verify", "--json").stdout)["agrees"] is True
    later = publish(settings, rows_for(8))
    wait_for_rows(settings, len(committed) + len(later))
    assert pipeline.run("status").returncode == 0
    assert (worker.stop(), sink.stop()) == (0, 0)


def test_an_open_transaction_holds_back_what_follows_it_and_ends_no_process(
    pipeline: Pipeline,
) -> None:
    settings = settings_of(pipeline)
    worker = pipeline.worker(ready=False)
    sink = pipeline.sink(ready=False)
    first = publish(settings, rows_for(12))
    wait_for_rows(settings, len(first))
    transactions = Transactions(settings, "hangs")
    held = transactions.begin(10)
    in_results = Transactions(settings, "hangs in results")
    in_results.begin(1, topic=RESULTS, partition=3)
    others = publish(settings, rows_for(40))
    waiting = [record for record in read_topic(settings, TASKS) if record.key.decode() in others]
    assert len(waiting) < len(others), "the scan ends before the open transaction"
    ends = time.monotonic() + 2 * STALL_SECONDS
    while time.monotonic() < ends:
        assert (worker.exit_code, sink.exit_code) == (None, None)
        time.sleep(0.2)
    assert answered(settings) & set(held) == set()
    assert pipeline.run("status").returncode == 0
    assert lags(settings) == {WORKER_GROUP: 0, SINK_GROUP: 0}
    assert json.loads(pipeline.run("verify", "--json").stdout)["agrees"] is True
    transactions.commit()
    in_results.abort()

    async def ask() -> object:
        async with Client(settings) as client:
            return (await client.ask([IRIS[0]], timeout=30)).y

    assert asyncio.run(ask()) == ["setosa"]
    wait_for_rows(settings, len(first) + len(held) + len(others) + 1)
    assert {row["task_id"] for row in read_rows(settings)} > {*first, *held, *others}
    assert (worker.stop(), sink.stop()) == (0, 0)
