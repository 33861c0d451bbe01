"""Three brokers of which one loses its disk, or two are killed, under load.

An accepted task is never lost, and while too few brokers run nothing is accepted.
"""

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from infra.broker.topic_configs import IncrementalAlter
from infra.config import Settings
from infra.topics import RESULTS, TASKS
from streams.codec import decode_result
from streams.events import new_id
from tests.infra.kafka.brokers import Brokers, start_brokers
from tests.processes import Pipeline, settings_for, wait_until
from tests.service import Reply, Service
from tests.streams.logs.test_recreated_logs import wait_for_rows
from tests.streams.test_pipeline import read_topic, settings_of

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("TEST_BROKER") != "kafka", reason="needs Apache Kafka (make test-kafka)"
    ),
    pytest.mark.timeout(300),
]
TASK = {"X": [[5.1, 3.5, 1.4, 0.2]]}
PROMPT_SECONDS = 4.0  # of a response without brokers, on a busy machine; the service's bound is 2 s
BACK_SECONDS = 120.0
CLIENTS = 3


class Load:
    """Clients that post tasks without a pause, from `start` on until the end of the block."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        self.replies: list[tuple[float, float, str, Reply]] = []  # start, seconds, id, reply

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            task_id, start = new_id(), time.monotonic()
            reply = self._service.call("POST", "/tasks", {"id": task_id, **TASK})
            self.replies.append((start, time.monotonic() - start, task_id, reply))

    def since(self, start: float) -> list[Reply]:
        return [reply for at, _, _, reply in list(self.replies) if at >= start]

    @property
    def accepted(self) -> set[str]:
        return {task_id for _, _, task_id, reply in self.replies if reply.status < 300}


class Pipe(NamedTuple):
    """Worker, sink and REST service on three brokers."""

    pipeline: Pipeline
    brokers: Brokers
    service: Service

    @property
    def settings(self) -> Settings:
        return settings_of(self.pipeline)

    @contextmanager
    def loaded(self) -> Iterator[Load]:
        """A block under load, after which every accepted task must have its answers."""
        with Load(self.service) as load:
            wait_until(lambda: len(load.accepted) > 20, BACK_SECONDS, "tasks before the loss")
            yield load
        wait_for_rows(self.settings, load.accepted)
        assert load.accepted <= {task_id for task_id, _ in self.answers()}
        statuses = {reply.status for reply in load.since(0)}
        assert statuses <= {202, 503}
        for reply in load.since(0):
            assert reply.status == 202 or (reply.headers["retry-after"], "error" in reply.json) == (
                "1",
                True,
            )
        slowest = max(seconds for _, seconds, _, reply in load.replies if reply.status == 503)
        assert slowest < PROMPT_SECONDS
        wait_until(lambda: self.brokers.is_whole(TASKS, RESULTS), BACK_SECONDS, "three replicas")

    def answers(self) -> Counter[tuple[str, str]]:
        results = [decode_result(record.value) for record in read_topic(self.settings, RESULTS)]
        return Counter((result.id, str(result.y)) for result in results)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Pipe]:
    folder = tmp_path_factory.mktemp("three")
    patience = {"PETAL_DELIVERY_TIMEOUT": "240", "PETAL_STALL_TIMEOUT": "480"}  # a slow machine
    env = settings_for(folder, artifact) | patience
    with Pipeline(folder, env) as pipeline:
        brokers = start_brokers(pipeline)
        pipeline.worker(ready=False)
        pipeline.sink(ready=False)
        pipeline.api()
        service = Service(pipeline, int(env["PETAL_API_PORT"]))
        wait_until(lambda: is_answered(service), BACK_SECONDS, "an answer")
        yield Pipe(pipeline, brokers, service)


def is_answered(service: Service) -> bool:
    return service.call("POST", "/tasks", TASK, prefer="wait=5").status == 200


def check_processes(pipe: Pipe) -> None:
    """Workers, sink and service waited for the brokers: none ended."""
    ended = [p.log.name for p in pipe.pipeline.processes if p.exit_code not in (None, -9)]
    assert ended == []


def test_while_two_brokers_are_down_nothing_is_accepted_and_then_all_is_answered(
    pipe: Pipe,
) -> None:
    with pipe.loaded() as load:
        for node in (2, 3):
            pipe.brokers.processes[node].kill()
        down = time.monotonic()
        wait_until(lambda: len(load.since(down)) > 5 * CLIENTS, BACK_SECONDS, "responses")
        assert {reply.status for reply in load.since(down)} == {503}
        stored = pipe.service.call("GET", f"/tasks/{load.replies[0][2]}")
        assert stored.status == 200  # what is stored can be read without a broker
        up = time.monotonic()
        for node in (2, 3):
            pipe.brokers.start(node)
        wait_until(lambda: any(r.status == 202 for r in load.since(up)), BACK_SECONDS, "a task")
    assert set(pipe.answers().values()) == {1}  # nobody was killed between answer and commit
    check_processes(pipe)


def test_a_leader_that_is_killed_and_loses_its_disk_loses_no_task(pipe: Pipe) -> None:
    brokers = pipe.brokers
    with pipe.loaded() as load:
        leader = brokers.leaders(TASKS)[0]
        brokers.lose_disk(leader)
        lost = time.monotonic()
        wait_until(
            lambda: sum(r.status == 202 for r in load.since(lost)) > 20, BACK_SECONDS,
            "tasks that two brokers accept",
        )  # fmt: skip
        brokers.start(leader)
        wait_until(lambda: brokers.is_whole(TASKS, RESULTS), BACK_SECONDS, "its copy")
        # It has all that it had: it alone leads, and what it lacks would be missing.
        others = [node for node in brokers.nodes if node != leader]
        brokers.processes[others[0]].kill()
        wait_until(lambda: others[0] not in brokers.leaders(TASKS).values(), 30, "other leaders")
        brokers.start(others[0])
        wait_until(lambda: brokers.is_whole(TASKS, RESULTS), BACK_SECONDS, "its copy")
    check_processes(pipe)


def test_tasks_that_too_few_replicas_have_are_refused_until_a_broker_is_back(pipe: Pipe) -> None:
    in_sync = IncrementalAlter(TASKS, {"min.insync.replicas": "3"})
    brokers = pipe.brokers
    with pipe.loaded() as load:
        asyncio.run(alter(pipe.settings, in_sync))
        brokers.processes[1].kill()
        wait_until(lambda: not any(1 in r for r in brokers.in_sync(TASKS).values()), 30, "two")
        down = time.monotonic()
        wait_until(lambda: len(load.since(down)) > 5 * CLIENTS, BACK_SECONDS, "responses")
        assert {reply.status for reply in load.since(down)} == {503}
        up = time.monotonic()
        brokers.start(1)
        wait_until(lambda: any(r.status == 202 for r in load.since(up)), BACK_SECONDS, "a task")
    asyncio.run(alter(pipe.settings, IncrementalAlter(TASKS, {"min.insync.replicas": "2"})))
    check_processes(pipe)


async def alter(settings: Settings, change: IncrementalAlter) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    await admin.start()
    try:
        response = await admin._send_to_controller(change)
        assert response.resources[0][0] == 0
    finally:
        await admin.close()
