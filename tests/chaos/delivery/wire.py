"""The batches and fetches that pass the proxy, and a broker that refuses one of them.

Only the workers' are looked at: their batches for `results` and `dead-letters`, and what they
fetch from `tasks`. All other frames pass unread.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka.protocol import fetch, produce

from infra.topics import RESULTS, TASKS
from streams.transport.producer import BATCH_BYTES

PRODUCE, FETCH = 0, 1
# The versions that aiokafka 0.14 sends and can decode; other clients use later ones.
MOST_PRODUCE, MOST_FETCH = 7, 11
REFUSED = 10  # MESSAGE_TOO_LARGE: clients do not try it again
REQUEST = struct.Struct(">hhih")  # key, version, correlation, length of the client's name
# A record batch's base offset, length, leader epoch, magic, CRC, attributes, offset of the last
# record within the batch, time of the first in milliseconds.
BATCH = struct.Struct(">qiibIhiq")
Topics = list[tuple[str, list[tuple[Any, ...]]]]


class Batch(NamedTuple):
    """A batch that a worker wrote, once the broker has replied: `error` 0 is accepted.

    `at`: the records' time in milliseconds, the same for all batches of a chunk. `crc` tells a
    batch that is sent again from another one. `size` in bytes.
    """

    topic: str
    partition: int
    at: int
    crc: int
    records: int
    size: int
    error: int = 0

    def continues(self, other: "Batch") -> bool:
        """Whether both hold answers of one chunk, which were too many for one batch."""
        return (
            self[:3] == other[:3] and self.crc != other.crc and self.size + other.size > BATCH_BYTES
        )


class Wire:
    """What all connections of a proxy have shown, in order.

    `fetches`: of each reply to a worker that had tasks, the number of partitions with some.
    """

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.fetches: list[int] = []
        self._refusing = False

    def refuse_a_further_batch(self) -> None:
        """Refuse the next batch of which another one of the same chunk was accepted."""
        self._refusing = True

    @property
    def has_refused(self) -> bool:
        """Whether the batch was refused that was to be."""
        return not self._refusing

    def accept_all(self) -> None:
        """Refuse nothing more."""
        self._refusing = False

    def must_refuse(self, batch: Batch) -> bool:
        """Whether this is the batch to refuse; it is refused once."""
        if not self._refusing or batch.topic != RESULTS:
            return False
        accepted = any(other.error == 0 and batch.continues(other) for other in self.batches)
        self._refusing = not accepted
        return accepted


class Dialogue:
    """One connection. Takes and gives frames without their length."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._asked: dict[int, type[Any]] = {}  # correlation id -> type of the reply
        self._sent: dict[int, list[Batch]] = {}
        self._refused: dict[int, list[Batch]] = {}

    def request(self, frame: bytes) -> bytes:
        """What to pass on to the broker in place of a request."""
        key, version, correlation, length = REQUEST.unpack_from(frame)
        body = REQUEST.size + max(0, length)
        if key == PRODUCE and version <= MOST_PRODUCE:
            kind = getattr(produce, f"ProduceRequest_v{version}")
            asked = kind.decode(frame[body:])
            refused = self._note_request(asked, correlation)
            return frame[:body] + _without(refused, asked) if refused else frame
        if key == FETCH and version <= MOST_FETCH:
            kind = getattr(fetch, f"FetchRequest_v{version}")
            if TASKS in [topic for topic, _ in kind.decode(frame[body:]).topics]:
                self._asked[correlation] = kind.RESPONSE_TYPE
        return frame

    def _note_request(self, asked: Any, correlation: int) -> list[Batch]:
        """Returns the batches to refuse."""
        batches = [batch for batch in _batches(asked.topics) if batch.topic != TASKS]
        refused = [batch for batch in batches if self._wire.must_refuse(batch)]
        if batches:
            self._asked[correlation] = asked.RESPONSE_TYPE
            self._sent[correlation], self._refused[correlation] = batches, refused
        return refused

    def response(self, frame: bytes) -> bytes:
        """What to pass on to the client in place of a reply."""
        correlation = int.from_bytes(frame[:4], "big")
        kind = self._asked.pop(correlation, None)
        if kind is None:
            return frame
        reply = kind.decode(frame[4:])
        if kind.API_KEY == PRODUCE:
            refused = self._refused.pop(correlation)
            _add(refused, reply)
            self._note_reply(reply, self._sent.pop(correlation))
            return frame[:4] + bytes(reply.encode()) if refused else frame
        having = [part for _, parts in reply.topics for part in parts if part[-1]]
        if having:
            self._wire.fetches.append(len(having))
        return frame

    def _note_reply(self, reply: Any, sent: list[Batch]) -> None:
        errors = {(topic, part[0]): part[1] for topic, parts in reply.topics for part in parts}
        for batch in sent:
            error = errors[batch.topic, batch.partition]
            self._wire.batches.append(batch._replace(error=error))


def _without(refused: Sequence[Batch], asked: Any) -> bytes:
    """A produce request with no batch for these partitions."""
    gone = {(batch.topic, batch.partition) for batch in refused}
    asked.topics = [
        (topic, kept)
        for topic, parts in asked.topics
        if (kept := [part for part in parts if (topic, part[0]) not in gone])
    ]
    return bytes(asked.encode())


def _add(refused: Sequence[Batch], reply: Any) -> None:
    """Have a reply say that these batches were refused."""
    columns = 3 if reply.API_VERSION < 2 else 4 if reply.API_VERSION < 5 else 5
    for batch in refused:
        part = (batch.partition, REFUSED, *[-1] * (columns - 2))
        reply.topics.append((batch.topic, [part]))


def _batches(topics: Topics) -> list[Batch]:
    """The batches of a produce request; aiokafka writes one for each partition."""
    found = []
    for topic, parts in topics:
        for partition, data in parts:
            _, _, _, _, crc, _, last, at = BATCH.unpack_from(data)
            found.append(Batch(topic, partition, at, crc, last + 1, len(data)))
    return found
