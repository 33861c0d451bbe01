"""A W3C trace goes from the request to the task's record and on to its result's."""

import asyncio
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from api import logs
from streams import worker
from streams.answer import DeadLetter
from streams.chunks import Chunk
from streams.events import new_id
from streams.topics import RESULTS, TASKS, TRACE_HEADER
from tests.service import Service, serving

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TASK = {"X": [[5.1, 3.5, 1.4, 0.2]]}


async def _headers(service: Service, topic: str, count: int) -> dict[bytes, Any]:
    """The headers of the first `count` records of a topic, by key."""
    server = f"127.0.0.1:{service.pipeline.env['PETAL_EMBEDDED_PORT']}"
    consumer = AIOKafkaConsumer(
        bootstrap_servers=server, fetch_max_wait_ms=20, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, p) for p in range(4)])
        await consumer.seek_to_beginning()
        async with asyncio.timeout(20):
            records = [await consumer.getone() for _ in range(count)]
        return {record.key: record.headers for record in records}
    finally:
        await consumer.stop()


def test_a_trace_goes_with_the_task_to_its_result_and_others_have_none(
    tmp_path: Path, artifact: Path
) -> None:
    traced, plain = new_id(), new_id()
    with serving(tmp_path, artifact) as service:
        service.pipeline.worker()
        for task_id, headers in ((traced, {"traceparent": TRACE}), (plain, {})):
            body = {**TASK, "id": task_id}
            got = service.call("POST", "/tasks", body, prefer="wait=20", **headers)
            assert got.status == 200
        for topic in (TASKS, RESULTS):
            assert asyncio.run(_headers(service, topic, 2)) == {
                traced.encode(): (("traceparent", TRACE.encode()),),
                plain.encode(): (),
            }


@pytest.mark.parametrize(
    ("given", "is_one"),
    [
        (TRACE, True),
        (TRACE.upper(), False),
        (TRACE + "-x", False),
        ("01" + TRACE[2:], False),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", False),
        (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", False),
        ("", False),
    ],
)
def test_only_what_is_a_trace_is_taken_for_one(given: str, is_one: bool) -> None:
    assert logs.trace(given.encode()) == (given.encode() if is_one else None)
    assert logs.trace(None) is None


class Record(NamedTuple):
    offset: int
    headers: list[tuple[str, bytes | None]]


def test_a_dead_letter_among_traced_tasks_moves_no_trace() -> None:
    trace = [(TRACE_HEADER, TRACE.encode())]
    records = [
        Record(5, []),
        Record(6, [*trace, ("other", b"x")]),
        Record(7, [*trace]),
        Record(8, [(TRACE_HEADER, None)]),
    ]
    letters = [DeadLetter(None, None, 6, "tombstone")]
    chunk = Chunk(TASKS, 0, 5, cast(Any, records))
    assert worker._traces(chunk, letters) == [[], trace, []]
    assert worker._traces(Chunk(TASKS, 0, 5, cast(Any, records[:1])), []) == []
