"""The work of the workers as the proxies see it: fetched, answered and committed; rebalances.

A fault meets a situation if it holds at the moment when the fault begins. All is read from the
requests and replies on the wire, nothing from the product's own word.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka.protocol import commit, group
from aiokafka.record.memory_records import MemoryRecords

from infra.topics import RESULTS, WORKER_GROUP
from tests.chaos.history import Place

# A worker has tasks whose answers the broker has not acknowledged; it has acknowledged answers to
# tasks whose offsets are not committed; a member of the group waits for its partitions.
SITUATIONS = ("chunk", "commit", "rebalance")
MANY_FAULTS = 12  # from which on a run also provokes rebalances for its faults to meet
COMMIT, JOIN, HEARTBEAT, SYNC = 8, 11, 12, 14
MAX_VERSIONS = {COMMIT: 3, JOIN: 5, HEARTBEAT: 1, SYNC: 3}  # that aiokafka 0.14 sends
REBALANCE_IN_PROGRESS = 27
POLL_SECONDS = 0.002


class Progress:
    """Of each partition of `tasks` the next offset that is fetched, answered and committed."""

    def __init__(self) -> None:
        self.fetched: dict[int, int] = {}
        self.answered: dict[int, int] = {}
        self.committed: dict[int, int] = {}
        self.joining: set[object] = set()  # the connections of members that wait for partitions

    def fetch(self, partition: int, first: int, end: int) -> None:
        """A worker got the tasks from `first` to `end`; a successor begins where it must."""
        self.fetched[partition] = end
        self.committed.setdefault(partition, first)
        self.answered[partition] = min(first, self.answered.get(partition, first))

    def answer(self, places: Iterable[Place]) -> None:
        """The broker acknowledged answers, or dead letters, of these tasks."""
        for partition, offset in places:
            self.answered[partition] = max(offset + 1, self.answered.get(partition, 0))

    @property
    def met(self) -> list[str]:
        """The situations that hold now."""
        answered, committed = self.answered, self.committed
        holds = (
            any(end > answered.get(p, 0) for p, end in self.fetched.items()),
            any(end > committed.get(p, 0) for p, end in answered.items()),
            bool(self.joining),
        )
        return [name for name, now in zip(SITUATIONS, holds, strict=True) if now]

    async def until(self, situation: str, seconds: float) -> bool:
        """Wait until a situation holds; False if it does not within `seconds`."""
        deadline = time.monotonic() + seconds
        while situation not in self.met:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True


class GroupConnection:
    """The requests of one connection about the workers' group; frames come without their length."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._sent: dict[int, Any] = {}  # correlation id -> request

    def request(self, key: int, version: int, correlation: int, body: bytes) -> None:
        """Note a request of a member of the group."""
        if version > MAX_VERSIONS.get(key, -1):
            return
        request = _decode(key, version, body)
        if (request.consumer_group if key == COMMIT else request.group) != WORKER_GROUP:
            return
        self._sent[correlation] = request
        if key == JOIN:
            self._progress.joining.add(self)

    def response(self, correlation: int, body: bytes) -> None:
        """Note the reply to a request."""
        request = self._sent.pop(correlation, None)
        if request is None:
            return
        reply = request.RESPONSE_TYPE.decode(body)
        if request.API_KEY == COMMIT:
            self._progress.committed |= _committed(request, reply)
        elif request.API_KEY == HEARTBEAT and reply.error_code == REBALANCE_IN_PROGRESS:
            self._progress.joining.add(self)
        elif request.API_KEY == SYNC and reply.error_code == 0:
            self._progress.joining.discard(self)

    def close(self) -> None:
        """The connection has ended, and with it the member's wait."""
        self._progress.joining.discard(self)


def _decode(key: int, version: int, body: bytes) -> Any:
    module, name = {
        COMMIT: (commit, "OffsetCommit"), JOIN: (group, "JoinGroup"),
        HEARTBEAT: (group, "Heartbeat"), SYNC: (group, "SyncGroup"),
    }[key]  # fmt: skip
    return getattr(module, f"{name}Request_v{version}").decode(body)


def _committed(request: Any, reply: Any) -> dict[int, int]:
    """The offsets that a reply confirms."""
    errors = {(topic, part[0]): part[1] for topic, parts in reply.topics for part in parts}
    return {
        part[0]: part[1]
        for topic, parts in request.topics
        for part in parts
        if errors.get((topic, part[0])) == 0
    }


def tasks_of(topic: str, data: bytes) -> list[Place]:
    """The tasks that the records of a batch of results, or of dead letters, belong to."""
    with contextlib.suppress(msgspec.DecodeError, KeyError):  # not of a worker
        return [_task_of(topic, record) for record in _records(data)]
    return []


def _records(data: bytes) -> Iterator[Any]:
    records = MemoryRecords(data)
    while records.has_next():
        yield from records.next_batch()


class _Answer(msgspec.Struct):
    task: Mapping[str, int]


def _task_of(topic: str, record: Any) -> Place:
    if topic == RESULTS:
        task = msgspec.json.decode(record.value, type=_Answer).task
        return task["partition"], task["offset"]
    headers = dict(record.headers)
    return int(headers["petal-partition"]), int(headers["petal-offset"])


def span(data: bytes) -> Sequence[int]:
    """The first offset of fetched record batches, and the one after the last whole one."""
    first, end, at = int.from_bytes(data[:8], "big"), 0, 0
    while at + 27 <= len(data):
        base, size = (int.from_bytes(data[at + a : at + b], "big") for a, b in ((0, 8), (8, 12)))
        if at + 12 + size > len(data):  # the broker cut it
            break
        end = base + int.from_bytes(data[at + 23 : at + 27], "big") + 1
        at += 12 + size
    return first, end
