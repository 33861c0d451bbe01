"""The client's promises, with a broker and mostly without a worker."""

import asyncio
import gc
import os
import time
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import LeaderNotAvailableError

from infra import config
from infra.config import Settings
from infra.topics import TASKS
from streams import client
from streams.client import Client, Submitted
from streams.codec import input_digest
from streams.errors import IdConflict, PipelineUnavailable, ResultTimeout, TaskTooLarge
from streams.events import Task, new_id
from streams.maintenance.scan import open_log
from tests.processes import Pipeline, free_port

ROW = [5.1, 3.5, 1.4, 0.2]
KAFKA = os.environ.get("TEST_BROKER") == "kafka"


def test_a_submitted_task_has_the_place_that_the_broker_returned(pipeline: Pipeline) -> None:
    settings = config.load(pipeline.env)

    async def run() -> tuple[list[Submitted], dict[tuple[int, int], bytes]]:
        async with Client(settings) as asker:
            sent = [await asker.submit([ROW]) for _ in range(20)]
        async with open_log(settings, TASKS) as log:
            found = {
                (part.partition, record.offset): record.key
                async for part in log.chunks()
                for record in part.records
            }
        return sent, found

    sent, found = asyncio.run(run())
    assert found == {(s.partition, s.offset): s.id.encode() for s in sent}


@pytest.mark.skipif(not KAFKA, reason="the embedded broker has no idempotent producers")
def test_a_client_whose_sequence_numbers_have_a_gap_can_submit(pipeline: Pipeline) -> None:
    """As if a broker was away for longer than aiokafka keeps a batch; see `Client._send`."""
    settings = config.load(pipeline.env)

    async def run() -> list[Submitted]:
        async with Client(settings) as asker:
            await asyncio.gather(*(asker.submit([ROW]) for _ in range(20)))
            for partition in range(settings.partitions):
                numbers = asker._producer._txn_manager  # type: ignore[union-attr]
                numbers.increment_sequence_number(TopicPartition(TASKS, partition), 1)
            return await asyncio.gather(*(asker.submit([ROW]) for _ in range(20)))

    sent = asyncio.run(run())
    assert len({(s.partition, s.offset) for s in sent}) == 20


def test_without_a_worker_a_question_times_out_and_names_its_task(pipeline: Pipeline) -> None:
    async def run() -> None:
        async with Client(config.load(pipeline.env)) as asker:
            task_id = new_id()
            with pytest.raises(ResultTimeout) as late:
                await asker.ask([ROW], timeout=0.5, task_id=task_id)
            assert late.value.task_id == task_id
            assert asker._listener._waiting == {}, "a caller that timed out still waits"

    asyncio.run(run())


def test_without_a_broker_a_client_is_unavailable_within_its_wait() -> None:
    start = time.monotonic()
    with pytest.raises(PipelineUnavailable, match="no Kafka broker"):
        asyncio.run(Client(Settings(embedded_port=free_port())).start(wait=1))
    assert time.monotonic() - start < 5


def test_a_task_that_is_too_large_is_refused_before_it_is_published() -> None:
    with pytest.raises(TaskTooLarge, match="the limit is 1,000,000"):
        client.encode_task([ROW] * 60_000, new_id())


def test_tasks_are_encoded_as_in_the_contract() -> None:
    import msgspec

    task_id = new_id()
    before = time.time()
    task = msgspec.json.decode(client.encode_task([ROW], task_id), type=Task)
    assert before <= task.at <= time.time()
    assert task == Task(v=1, id=task_id, X=[ROW], at=task.at)


def test_stopping_the_client_cancels_waiting_calls(pipeline: Pipeline) -> None:
    async def run() -> None:
        asker = Client(config.load(pipeline.env))
        await asker.start()
        asking = asyncio.create_task(asker.ask([ROW], timeout=60))
        while not asker._listener._waiting:
            await asyncio.sleep(0.01)
        await asker.stop()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(run())


def test_a_delivery_that_fails_after_its_wait_ended_is_not_logged(pipeline: Pipeline) -> None:
    logged: list[dict[str, Any]] = []

    async def submit_and_leave(asker: Client) -> None:
        def leave(delivery: asyncio.Future[Any]) -> None:
            deliveries.append(delivery)
            asking.cancel()

        deliveries: list[asyncio.Future[Any]] = []
        asking = asyncio.create_task(asker.submit([ROW], on_sent=leave))
        with pytest.raises(asyncio.CancelledError):
            await asking
        [delivery] = deliveries
        delivery.set_exception(LeaderNotAvailableError())

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        async with Client(config.load(pipeline.env)) as asker:
            await submit_and_leave(asker)
        gc.collect()

    asyncio.run(run())
    assert logged == []


def test_a_result_is_compared_with_the_digest_that_the_caller_has(pipeline: Pipeline) -> None:
    pipeline.worker()

    async def main() -> None:
        async with Client(config.load(pipeline.env)) as asker:
            result = await asker.ask([ROW], timeout=20, digest=input_digest([ROW]))
            assert result.y == ["setosa"]
            with pytest.raises(IdConflict):
                await asker.ask([ROW], timeout=20, digest="0" * 16)

    asyncio.run(main())


def test_earlier_results_can_be_awaited_any_number_of_times(pipeline: Pipeline) -> None:
    """The reader is at work when it seeks to the beginning, and may read the result at once."""
    pipeline.worker()

    async def main() -> None:
        async with Client(config.load(pipeline.env)) as asker:
            ids = [(await asker.ask([ROW], timeout=20)).id for _ in range(5)]
            for task_id in ids * 6:
                assert (await asker.wait(task_id, 5)).id == task_id

    asyncio.run(main())
