"""A W3C trace goes from the request to the task's record and on to its result's."""

import asyncio
from pathlib import Path
from typing import Any, NamedTuple, cast

from infra.topics import RESULTS, TASKS, TRACE_HEADER
from streams.events import new_id
from streams.processing.decoder import DeadLetter
from streams.processing.spans import trace_headers
from streams.records import Chunk
from tests.service import record_headers, serving

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TASK = {"X": [[5.1, 3.5, 1.4, 0.2]]}


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
            assert asyncio.run(record_headers(service, topic, 2)) == {
                traced.encode(): (("traceparent", TRACE.encode()),),
                plain.encode(): (),
            }


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
    assert trace_headers(chunk, letters) == [[], trace, []]
    assert trace_headers(Chunk(TASKS, 0, 5, cast(Any, records[:1])), []) == []
