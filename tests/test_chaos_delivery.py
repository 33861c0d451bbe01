"""The counts of the situations of delivery in a chaos run, and the refusal of a batch."""

import struct
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest_v4, FetchResponse_v4
from aiokafka.protocol.produce import ProduceRequest_v7, ProduceResponse_v7
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from infra.topics import RESULTS, TASKS
from streams.transport.producer import BATCH_BYTES
from tests.chaos.checks.observed import Observed, Projected, ResultRecord, TaskRecord, Usage
from tests.chaos.checks.verdict import check, floor_for
from tests.chaos.delivery import situations
from tests.chaos.delivery.backlog import PATTERN
from tests.chaos.delivery.situations import CHUNK_RECORDS
from tests.chaos.delivery.wire import REFUSED, Batch, Connection, Wire
from tests.chaos.model import BULK_ROWS, answer_to, bulk_id, owner_of

PID = 7
FIRST = Batch(RESULTS, 2, 1000, 11, 3, BATCH_BYTES - 10)
SECOND = Batch(RESULTS, 2, 1000, 12, 1, 500)


def result(offset: int, task: int, at: int, pid: int = PID) -> ResultRecord:
    return ResultRecord((1, offset), f"task {task}", (1, task), [1.0], pid=pid, at=at)


def observed(**fields: Any) -> Observed:
    """A full chunk: the tasks 10 to 14, logged at 5; task 12 is unreadable."""
    tasks = [TaskRecord((1, n), f"task {n}", n != 12, t=5) for n in range(10, 15)]
    results = [result(n, task, at=1000) for n, task in enumerate((10, 11, 13, 14))]
    starts = [Usage(6, "worker 1", PID, 1, 1), Usage(9, "worker 1", PID, 1, 1)]
    return Observed([], tasks, results, [(1, 12)], Projected([]), usage=starts)._replace(**fields)


def test_a_chunk_counts_as_mixed_and_as_backlog() -> None:
    met = situations.count(observed())
    assert (met["mixed_chunks"], met["backlog_chunks"]) == (1, 1)


def test_a_dead_letter_outside_a_chunk_does_not_count() -> None:
    assert situations.count(observed(letters=[(1, 9), (1, 15), (0, 12)]))["mixed_chunks"] == 0


def test_answers_with_different_times_or_workers_are_different_chunks() -> None:
    for other in (result(2, 13, at=1001), result(2, 13, at=1000, pid=8)):
        results = [result(0, 10, at=1000), result(1, 11, at=1000), other]
        assert situations.count(observed(results=results))["mixed_chunks"] == 0


def test_a_worker_older_than_its_tasks_read_no_backlog() -> None:
    older = [Usage(4, "worker 1", PID, 1, 1)]
    assert situations.count(observed(usage=older))["backlog_chunks"] == 0


@pytest.mark.parametrize(
    ("batches", "several", "refused"),
    [
        ([FIRST, SECOND], 1, 0),
        ([FIRST, FIRST], 0, 0),  # resent
        ([FIRST, SECOND._replace(at=1001)], 0, 0),  # another chunk
        ([FIRST, SECOND._replace(partition=3)], 0, 0),
        ([FIRST._replace(size=100), SECOND], 0, 0),  # two chunks in the same millisecond
        ([FIRST, SECOND._replace(error=REFUSED)], 0, 1),
        ([FIRST._replace(error=REFUSED), SECOND._replace(error=REFUSED)], 0, 0),
    ],
)
def test_further_batches_of_a_chunk_count(batches: list[Batch], several: int, refused: int) -> None:
    met = situations.count(observed(batches=batches, fetches=[1, 2, 3]))
    assert (met["several_batches"], met["refused_after_accepted"]) == (several, refused)
    assert met["several_partitions"] == 2


def test_a_run_without_these_situations_is_vacuous() -> None:
    nothing = observed(results=[], tasks=[], letters=[], usage=[])
    missed = [line.split(":")[0] for line in check(nothing, floor_for(0, 0, ["backlog"])).vacuous]
    assert missed == [
        "faults", "several_batches", "mixed_chunks", "backlog_chunks", "several_partitions"
    ]  # fmt: skip
    missed = [
        line.split(":")[0] for line in check(nothing, floor_for(0, 0, ["refuse-batch"])).vacuous
    ]
    assert missed[-1] == "refused_after_accepted"


def test_a_backlog_fills_a_batch_for_every_cut_into_chunks() -> None:
    task_id = bulk_id("01234567-89ab-4cde-8f01-23456789abcd")
    answer = answer_to(task_id)
    assert len(answer) == BULK_ROWS
    assert {owner_of(value) for value in answer} == {answer[0]}
    assert 2 * len(",".join(str(float(value)) for value in answer)) > BATCH_BYTES
    for cut in range(len(PATTERN) + 1):
        parts = PATTERN[:cut], PATTERN[cut:]
        assert max(part.count("B") for part in parts) > 1
        assert any({"B", "P"} <= set(part) for part in parts)
    assert len(PATTERN) <= CHUNK_RECORDS


def batch(value: bytes, at: int) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 10_000_000)
    builder.append(0, at, b"key", value, [])
    return bytes(builder.build())


def request(kind: Any, correlation: int, body: bytes) -> bytes:
    name = b"a client"
    head = struct.pack(">hhih", kind.API_KEY, kind.API_VERSION, correlation, len(name))
    return head + name + body


def produced(correlation: int, parts: list[tuple[int, bytes]]) -> bytes:
    body = ProduceRequest_v7(None, -1, 1000, [(RESULTS, parts)]).encode()
    return request(ProduceRequest_v7, correlation, body)


def confirmed(correlation: int, partitions: list[int]) -> bytes:
    parts = [(partition, 0, 40, -1, 0) for partition in partitions]
    body = ProduceResponse_v7([(RESULTS, parts)] if parts else [], 0).encode()
    return struct.pack(">i", correlation) + bytes(body)


def errors_in(reply: bytes) -> dict[int, int]:
    topics = ProduceResponse_v7.decode(reply[4:]).topics
    return {part[0]: part[1] for _, parts in topics for part in parts}


def test_the_wire_refuses_one_further_batch_and_passes_the_rest_of_the_request() -> None:
    wire = Wire()
    connection = Connection(wire)
    first, second, other = (batch(b"x" * size, 1000) for size in (800_000, 200_000, 10))
    wire.refuse_a_further_batch()
    sent = produced(1, [(2, first)])
    assert connection.request(sent) == sent
    assert connection.response(confirmed(1, [2])) == confirmed(1, [2])
    assert not wire.has_refused
    assert connection.request(produced(2, [(2, second), (3, other)])) == produced(2, [(3, other)])
    assert errors_in(connection.response(confirmed(2, [3]))) == {3: 0, 2: REFUSED}
    assert wire.has_refused
    resent = produced(3, [(2, second)])
    assert connection.request(resent) == resent
    assert connection.response(confirmed(3, [2])) == confirmed(3, [2])
    assert [(b.partition, b.size, b.error) for b in wire.batches] == [
        (2, len(first), 0), (2, len(second), REFUSED), (3, len(other), 0), (2, len(second), 0)
    ]  # fmt: skip


def test_the_wire_counts_the_partitions_of_a_fetch() -> None:
    wire = Wire()
    connection = Connection(wire)
    for correlation, topic in enumerate((TASKS, RESULTS)):
        body = FetchRequest_v4(-1, 20, 1, 1000, 0, [(topic, [(0, 0, 9), (1, 0, 9), (2, 0, 9)])])
        sent = request(FetchRequest_v4, correlation, body.encode())
        assert connection.request(sent) == sent
        parts: list[Any] = [
            (0, 0, 5, 5, [], batch(b"x", 1)),
            (1, 0, 5, 5, [], b""),
            (2, 0, 5, 5, [], b"x"),
        ]
        reply = struct.pack(">i", correlation) + bytes(
            FetchResponse_v4(0, [(topic, parts)]).encode()
        )
        assert connection.response(reply) == reply
    assert wire.fetches == [2]


def test_frames_of_other_clients_pass_unparsed() -> None:
    connection = Connection(Wire())
    for key, version in ((0, 9), (1, 16), (3, 1), (18, 3)):
        frame = struct.pack(">hhih", key, version, 1, -1) + b"whatever"
        assert connection.request(frame) == frame
        assert connection.response(frame) == frame
