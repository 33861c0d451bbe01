"""The batches and fetches on the wire between workers and broker, and the refusal of a batch.

Only the workers' frames are parsed: their batches for `results` and `dead-letters`, their fetches
from `tasks`, and the requests of their group. All other frames pass unparsed.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.protocol import fetch, produce

from infra.topics import RESULTS, TASKS
from streams.transport.producer import BATCH_BYTES
from tests.chaos.delivery.progress import GroupConnection, Progress, span, tasks_of
from tests.chaos.history import Place

PRODUCE, FETCH = 0, 1
# The versions that aiokafka 0.14 sends and can decode; other clients use later ones.
MAX_PRODUCE, MAX_FETCH = 7, 11
REFUSED = 21  # INVALID_REQUIRED_ACKS: clients do not retry it, and no message is its reason
REQUEST = struct.Struct(">hhih")  # key, version, correlation, length of the client's name
# A record batch's base offset, length, leader epoch, magic, CRC, attributes, offset of the last
# record within the batch, time of the first in milliseconds.
BATCH = struct.Struct(">qiibIhiq")
Topics = list[tuple[str, list[tuple[Any, ...]]]]


class Batch(NamedTuple):
    """A batch that a worker wrote, and the broker's reply: `error` 0 is accepted.

    `at`: the records' time in milliseconds, the same for all batches of a chunk. `crc`: equal if
    the same batch was sent twice. `size` in bytes.
    """

    topic: str
    partition: int
    at: int
    crc: int
    records: int
    size: int
    error: int = 0

    def continues(self, other: "Batch") -> bool:
        """Whether both hold answers of one chunk, which do not fit into one batch."""
        return (
            self[:3] == other[:3] and self.crc != other.crc and self.size + other.size > BATCH_BYTES
        )


class Wire:
    """The traffic of all connections, in order; several proxies may share it.

    `fetches`: for each reply with tasks to a worker, the number of partitions with tasks.
    """

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.fetches: list[int] = []
        self.progress = Progress()
        self.code = REFUSED
        self._refusing = False

    def refuse_a_further_batch(self, code: int = REFUSED) -> None:
        """Refuse the next batch that continues an accepted batch of the same chunk."""
        self.code = code
        self._refusing = True

    @property
    def has_refused(self) -> bool:
        """Whether the batch was refused."""
        return not self._refusing

    def accept_all(self) -> None:
        """Refuse no batch from now on."""
        self._refusing = False

    def must_refuse(self, batch: Batch) -> bool:
        """Whether to refuse this batch; True only once."""
        if not self._refusing or batch.topic != RESULTS:
            return False
        accepted = any(other.error == 0 and batch.continues(other) for other in self.batches)
        self._refusing = not accepted
        return accepted


class Connection:
    """One connection; its frames come without their length."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._reply_types: dict[int, type[Any]] = {}  # correlation id -> type of the reply
        self._sent: dict[int, list[Batch]] = {}
        self._refused: dict[int, list[Batch]] = {}
        self._tasks: dict[int, dict[tuple[str, int], list[Place]]] = {}
        self._group = GroupConnection(wire.progress)

    def close(self) -> None:
        """The connection has ended."""
        self._group.close()

    def request(self, frame: bytes) -> bytes:
        """The frame to pass on to the broker in place of this request."""
        key, version, correlation, length = REQUEST.unpack_from(frame)
        body = REQUEST.size + max(0, length)
        if key == PRODUCE and version <= MAX_PRODUCE:
            kind = getattr(produce, f"ProduceRequest_v{version}")
            request = kind.decode(frame[body:])
            refused = self._note_request(request, correlation)
            return frame[:body] + _without(refused, request) if refused else frame
        if key == FETCH and version <= MAX_FETCH:
            kind = getattr(fetch, f"FetchRequest_v{version}")
            if TASKS in [topic for topic, _ in kind.decode(frame[body:]).topics]:
                self._reply_types[correlation] = kind.RESPONSE_TYPE
        self._group.request(key, version, correlation, frame[body:])
        return frame

    def _note_request(self, request: Any, correlation: int) -> list[Batch]:
        """Returns the batches to refuse."""
        batches = [batch for batch in _batches(request.topics) if batch.topic != TASKS]
        refused = [batch for batch in batches if self._wire.must_refuse(batch)]
        if batches:
            self._reply_types[correlation] = request.RESPONSE_TYPE
            self._sent[correlation], self._refused[correlation] = batches, refused
            self._tasks[correlation] = {
                (topic, part): tasks_of(topic, data)
                for topic, parts in request.topics
                if topic != TASKS
                for part, data in parts
            }
        return refused

    def response(self, frame: bytes) -> bytes:
        """The frame to pass on to the client in place of this reply."""
        correlation = int.from_bytes(frame[:4], "big")
        kind = self._reply_types.pop(correlation, None)
        if kind is None:
            self._group.response(correlation, frame[4:])
            return frame
        reply = kind.decode(frame[4:])
        if kind.API_KEY == PRODUCE:
            refused = self._refused.pop(correlation)
            _add(refused, reply, self._wire.code)
            self._note_reply(reply, self._sent.pop(correlation), self._tasks.pop(correlation))
            return frame[:4] + bytes(reply.encode()) if refused else frame
        with_tasks = [part for _, parts in reply.topics for part in parts if part[-1]]
        if with_tasks:
            self._wire.fetches.append(len(with_tasks))
        for part in with_tasks:
            self._wire.progress.fetch(part[0], *span(part[-1]))
        return frame

    def _note_reply(
        self, reply: Any, sent: list[Batch], tasks: Mapping[tuple[str, int], list[Place]]
    ) -> None:
        errors = {(topic, part[0]): part[1] for topic, parts in reply.topics for part in parts}
        for batch in sent:
            error = errors[batch.topic, batch.partition]
            self._wire.batches.append(batch._replace(error=error))
            if error == 0:
                self._wire.progress.answer(tasks[batch.topic, batch.partition])


def _without(refused: Sequence[Batch], request: Any) -> bytes:
    """The produce request without the refused batches."""
    gone = {(batch.topic, batch.partition) for batch in refused}
    request.topics = [
        (topic, kept)
        for topic, parts in request.topics
        if (kept := [part for part in parts if (topic, part[0]) not in gone])
    ]
    return bytes(request.encode())


def _add(refused: Sequence[Batch], reply: Any, code: int) -> None:
    """Report the refused batches in a reply."""
    columns = 3 if reply.API_VERSION < 2 else 4 if reply.API_VERSION < 5 else 5
    for batch in refused:
        part = (batch.partition, code, *[-1] * (columns - 2))
        reply.topics.append((batch.topic, [part]))


def _batches(topics: Topics) -> list[Batch]:
    """The batches of a produce request; aiokafka writes one for each partition."""
    batches = []
    for topic, parts in topics:
        for partition, data in parts:
            _, _, _, _, crc, _, last, at = BATCH.unpack_from(data)
            batches.append(Batch(topic, partition, at, crc, last + 1, len(data)))
    return batches
