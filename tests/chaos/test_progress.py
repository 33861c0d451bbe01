"""The situations that a fault meets, as the proxy sees them, and a process that it cuts off."""

import asyncio
import os
import struct
from typing import Any

from aiokafka.protocol.commit import OffsetCommitRequest_v2, OffsetCommitResponse_v2
from aiokafka.protocol.fetch import FetchRequest_v4, FetchResponse_v4
from aiokafka.protocol.group import (
    HeartbeatRequest_v1,
    HeartbeatResponse_v1,
    JoinGroupRequest_v2,
    SyncGroupRequest_v1,
    SyncGroupResponse_v1,
)
from aiokafka.protocol.produce import ProduceRequest_v7, ProduceResponse_v7
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from infra.topics import DEAD_LETTERS, RESULTS, TASKS, WORKER_GROUP
from tests.chaos.delivery.progress import REBALANCE_IN_PROGRESS
from tests.chaos.delivery.wire import Connection, Wire
from tests.chaos.faults.proxy import Isolation, Proxy
from tests.chaos.test_delivery import request
from tests.chaos.test_runs import echo
from tests.processes import free_port


def batch(base: int, *records: tuple[bytes, list[tuple[str, bytes]]]) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 10_000_000)
    for n, (value, headers) in enumerate(records):
        builder.append(n, 1000, b"key", value, headers)
    return struct.pack(">q", base) + bytes(builder.build())[8:]


def exchange(connection: Connection, kind: Any, sent: Any, reply: Any) -> None:
    """A request and its reply pass unchanged."""
    frame = request(kind, 1, sent.encode())
    assert connection.request(frame) == frame
    answer = struct.pack(">i", 1) + bytes(reply.encode())
    assert connection.response(answer) == answer


def fetch(connection: Connection, base: int, count: int) -> None:
    data = batch(base, *[(b"task", [])] * count)
    sent = FetchRequest_v4(-1, 20, 1, 1000, 0, [(TASKS, [(0, base, 9)])])
    reply = FetchResponse_v4(0, [(TASKS, [(0, 0, 99, 99, [], data)])])
    exchange(connection, FetchRequest_v4, sent, reply)


def answer(connection: Connection, topic: str, data: bytes, error: int = 0) -> None:
    sent = ProduceRequest_v7(None, -1, 1000, [(topic, [(0, data)])])
    reply = ProduceResponse_v7([(topic, [(0, error, 40, -1, 0)])], 0)
    exchange(connection, ProduceRequest_v7, sent, reply)


def commit(connection: Connection, offset: int, error: int = 0, group: str = WORKER_GROUP) -> None:
    sent = OffsetCommitRequest_v2(group, 1, "me", -1, [(TASKS, [(0, offset, "")])])
    reply = OffsetCommitResponse_v2([(TASKS, [(0, error)])])
    exchange(connection, OffsetCommitRequest_v2, sent, reply)


def result(offset: int) -> tuple[bytes, list[tuple[str, bytes]]]:
    return b'{"task":{"partition":0,"offset":%d}}' % offset, []


def letter(offset: int) -> tuple[bytes, list[tuple[str, bytes]]]:
    return b"{", [("petal-partition", b"0"), ("petal-offset", str(offset).encode())]


def test_tasks_are_in_flight_until_answered_and_pending_until_committed() -> None:
    wire = Wire()
    connection = Connection(wire)
    assert wire.progress.met == []
    fetch(connection, 10, 3)
    assert wire.progress.met == ["chunk"]
    commit(connection, 10)
    answer(connection, RESULTS, batch(0, result(10), result(11)), error=7)
    assert wire.progress.met == ["chunk"]
    answer(connection, RESULTS, batch(0, result(10), result(11)))
    assert wire.progress.met == ["chunk", "commit"]
    answer(connection, DEAD_LETTERS, batch(0, letter(12)))
    assert wire.progress.met == ["commit"]
    commit(connection, 13, error=REBALANCE_IN_PROGRESS)
    commit(connection, 13, group="another")
    assert wire.progress.met == ["commit"]
    commit(connection, 13)
    assert wire.progress.met == []


def test_a_successor_has_the_tasks_in_flight_that_it_rereads() -> None:
    wire = Wire()
    first, successor = Connection(wire), Connection(wire)
    fetch(first, 10, 3)
    answer(first, RESULTS, batch(0, result(12)))
    fetch(successor, 10, 3)
    assert wire.progress.met == ["chunk"]


def test_a_group_rebalances_until_each_member_has_its_partitions() -> None:
    wire = Wire()
    member, other = Connection(wire), Connection(wire)
    beat = HeartbeatRequest_v1(WORKER_GROUP, 1, "me")
    reply = HeartbeatResponse_v1(0, REBALANCE_IN_PROGRESS)
    exchange(member, HeartbeatRequest_v1, beat, reply)
    joining = JoinGroupRequest_v2(WORKER_GROUP, 6000, 6000, "", "consumer", [])
    other.request(request(JoinGroupRequest_v2, 1, joining.encode()))
    assert wire.progress.met == ["rebalance"]
    sync = SyncGroupRequest_v1(WORKER_GROUP, 2, "me", [])
    exchange(member, SyncGroupRequest_v1, sync, SyncGroupResponse_v1(0, 0, b""))
    assert wire.progress.met == ["rebalance"]
    other.close()
    assert wire.progress.met == []


def test_a_process_that_is_cut_off_reaches_the_broker_late() -> None:
    async def run() -> tuple[bool, bytes, bool]:
        port, target = free_port(), free_port()
        isolation = Isolation()
        server = await asyncio.start_server(echo, "127.0.0.1", target)
        async with server, Proxy(port, target, isolation=isolation):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            isolation.begin(lambda: 1)  # another process
            writer.write(b"one")
            passed = await reader.read(100) == b"one"
            isolation.begin(os.getpid)
            writer.write(b"two")
            while not isolation.held:
                await asyncio.sleep(0.01)
            reading = asyncio.create_task(reader.read(100))
            done, _ = await asyncio.wait([reading], timeout=0.2)
            isolation.end()
            async with asyncio.timeout(5):
                late = await reading
            writer.close()
            return passed, late, bool(done)

    assert asyncio.run(run()) == (True, b"two", False)
