"""Deliveries that are not the usual one, with real processes and a real broker: what fills
several batches, what cannot be read, all partitions at once, and a broker that refuses a part.
"""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidTimestampError, MessageSizeTooLargeError

from infra.broker.admin import prepare
from infra.config import Settings
from infra.topics import DEAD_LETTERS, RESULTS, TASKS, TRACE_HEADER, WORKER_GROUP
from streams.codec import decode_result
from streams.events import new_id
from streams.transport.producer import BATCH_BYTES
from tests.chaos.delivery.wire import Wire
from tests.chaos.faults.proxy import Proxy
from tests.chaos.supervisor import Broker
from tests.processes import Pipeline, free_port, settings_for, wait_until
from tests.streams.test_pipeline import read_topic, settings_of

ROWS = 6000  # of a task whose answer takes 0.4 MB: three do not fit into one batch
CREATE_TIME = 0  # the type of a record's time
UNREADABLE = b'{"v":1'.ljust(400_000, b" ")

Place = tuple[int, int]  # partition and offset in `tasks`


class Published(NamedTuple):
    """A record of `tasks`."""

    key: bytes
    value: bytes
    trace: bytes


def record(letter: str) -> Published:
    """B: a task with many rows, S: one with a single row, U: what cannot be read."""
    key = new_id().encode()
    rows = b",".join([b"[5.1,3.5,1.4,0.2]"] * (ROWS if letter == "B" else 1))
    digits = key.replace(b"-", b"")
    task = b'{"v":1,"id":"%s","X":[%s],"at":1.0}' % (key, rows)
    trace = b"00-%s-%s-00" % (digits, digits[:16])
    return Published(key, UNREADABLE if letter == "U" else task, trace)


def publish(settings: Settings, patterns: dict[int, str]) -> dict[Place, Published]:
    """Write to each partition what its pattern says."""

    async def run() -> dict[Place, Published]:
        placed = {}
        async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap) as producer:
            for partition, pattern in patterns.items():
                for one in map(record, pattern):
                    done = await producer.send_and_wait(
                        TASKS, one.value, key=one.key, partition=partition,
                        headers=[(TRACE_HEADER, one.trace)],
                    )  # fmt: skip
                    placed[done.partition, done.offset] = one
        return placed

    return asyncio.run(run())


def task_of(result: Any) -> Place:
    task = decode_result(result.value).task
    return task.partition, task.offset


def source_of(letter: Any) -> Place:
    headers = dict(letter.headers)
    return int(headers["petal-partition"]), int(headers["petal-offset"])


def wait_for_ends(settings: Settings, count: int) -> tuple[list[Any], list[Any]]:
    """The results and dead letters, once there are so many together."""
    found: list[list[Any]] = []

    def all_there() -> bool:
        found[:] = [read_topic(settings, RESULTS), read_topic(settings, DEAD_LETTERS)]
        return len({*map(task_of, found[0]), *map(source_of, found[1])}) >= count

    wait_until(all_there, 60, f"{count} results and dead letters")
    return found[0], found[1]


def test_a_backlog_of_several_batches_in_every_partition_has_each_its_own_end(
    pipeline: Pipeline,
) -> None:
    settings = settings_of(pipeline)
    patterns = {0: "BUSUBUB", 1: "BBBBB", 2: "SUBBSBU", 3: "UUUSB"}
    published = publish(settings, patterns)
    pipeline.worker()
    results, letters = wait_for_ends(settings, len(published))
    unreadable = {place for place, one in published.items() if one.value == UNREADABLE}
    assert [r.partition for r in results] == [task_of(r)[0] for r in results]
    assert [task_of(r) for r in sorted(results, key=lambda r: (r.partition, r.offset))] == sorted(
        published.keys() - unreadable
    )
    for result in results:
        task = published[task_of(result)]
        assert (result.key, dict(result.headers)) == (task.key, {TRACE_HEADER: task.trace})
    assert Counter(map(source_of, letters)) == Counter(unreadable)
    for letter in letters:
        source = published[source_of(letter)]
        assert (letter.key, letter.value) == (source.key, source.value)
    assert fullest(results, chunk_of_result) > BATCH_BYTES, "no chunk had several batches"
    if letters[0].timestamp_type == CREATE_TIME:  # Kafka's time tells nothing of the chunk
        assert fullest(letters, chunk_of_letter) > BATCH_BYTES, "no chunk had several of letters"


def fullest(records: list[Any], chunk_of: Callable[[Any], object]) -> int:
    """The most bytes of one chunk, whose records stand side by side."""
    return max(sum(len(r.value) for r in group) for _, group in groupby(records, key=chunk_of))


def chunk_of_result(record: Any) -> object:
    """The results of a chunk have one time of prediction, in microseconds."""
    return record.partition, decode_result(record.value).ms.infer


def chunk_of_letter(record: Any) -> object:
    """The records of a chunk have the time at which they were sent."""
    return record.partition, record.timestamp


@contextlib.contextmanager
def proxied(listen: int, target: int, wire: Wire) -> Iterator[Proxy]:
    """A proxy in an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    proxy = Proxy(listen, target, wire)
    asyncio.run_coroutine_threadsafe(proxy.listen(), loop).result(5)
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy.refuse(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def watched(tmp_path: Path, artifact: Path, wire: Wire) -> Iterator[Pipeline]:
    """A pipeline whose embedded broker is behind a proxy."""
    listen, target = free_port(), free_port()
    env = settings_for(tmp_path, artifact) | {
        "PETAL_BROKER": f"127.0.0.1:{listen}", "PETAL_IDEMPOTENCE": "false",
        "PETAL_SESSION_TIMEOUT": "3",
    }  # fmt: skip
    with proxied(listen, target, wire) as proxy, Pipeline(tmp_path, env) as pipeline:
        Broker(pipeline, target, proxy, listen).start_embedded()
        asyncio.run(prepare(settings_of(pipeline)))
        yield pipeline


def committed(settings: Settings, partition: int) -> int | None:
    """The next offset of a partition of `tasks` that the workers have committed."""

    async def run() -> int | None:
        tp = TopicPartition(TASKS, partition)
        async with AIOKafkaConsumer(
            bootstrap_servers=settings.bootstrap, group_id=WORKER_GROUP, enable_auto_commit=False
        ) as consumer:
            consumer.assign([tp])
            offset = await consumer.committed(tp)
            return None if offset is None else int(offset)

    return asyncio.run(run())


def test_where_one_batch_of_a_chunk_is_refused_the_whole_chunk_is_read_again(
    watched: Pipeline, wire: Wire
) -> None:
    settings = settings_of(watched)
    published = publish(settings, {1: "SBUBBS"})
    wire.refuse_a_further_batch()
    first = watched.worker(ready=False)
    wait_until(lambda: first.exit_code is not None, 60, "the worker ends")
    assert first.exit_code == 75
    told = "petalstream: publishing results failed: InvalidRequiredAcksError"
    assert told in first.output.splitlines()[-1]
    accepted = [task_of(r) for r in read_topic(settings, RESULTS)]
    assert 0 < len(accepted) < 5
    assert committed(settings, 1) is None
    watched.worker(ready=False)
    results, letters = wait_for_ends(settings, len(published))
    assert Counter(map(task_of, results)) == Counter(
        [*accepted, *(place for place, one in published.items() if one.value != UNREADABLE)]
    )
    assert {published[source_of(letter)].value for letter in letters} == {UNREADABLE}


@pytest.mark.parametrize("code", [MessageSizeTooLargeError.errno, InvalidTimestampError.errno])
def test_where_one_batch_of_a_chunk_is_refused_for_what_is_in_it_the_worker_goes_on(
    watched: Pipeline, wire: Wire, code: int
) -> None:
    settings = settings_of(watched)
    published = publish(settings, {1: "SBUBBS"})
    wire.refuse_a_further_batch(code)
    worker = watched.worker(ready=False)
    results, letters = wait_for_ends(settings, len(published))
    assert wire.has_refused
    readable = {place for place, one in published.items() if one.value != UNREADABLE}
    assert set(map(task_of, results)) == readable
    assert {decode_result(r.value).error for r in results} == {None}
    assert {published[source_of(letter)].value for letter in letters} == {UNREADABLE}
    assert worker.exit_code is None
