"""For how long the records of each partition wait: the age of the oldest that is not handled.

The broker's time of a record is compared with this machine's clock, which may be wrong. So what
this process has seen itself, on a clock that never jumps, limits the answer on both sides:

- A record that was seen unhandled some time ago is at least so old.
- A record that came after the reader was at the log's end is at most as old as that.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from streams.transport.acks import ChunkMessage


class _Delivered:
    """A chunk that is delivered and not acknowledged."""

    __slots__ = ("after", "at", "first_ms", "last_ms")

    def __init__(self, records: Sequence[Any], at: float, after: float | None) -> None:
        # A batch that cannot be decoded has no time, and a message of format 0 has -1.
        self.first_ms: int | None = records[0].timestamp if records[0].timestamp > 0 else None
        self.last_ms: int = records[-1].timestamp
        self.at, self.after = at, after


class _Partition:
    """`handled_ms`: time of the last handled record. `at_end`: when the reader was at the end.
    `behind`: the first offset that is not handled, and since when that is so."""

    __slots__ = ("at_end", "behind", "delivered", "handled_ms")

    def __init__(self) -> None:
        self.delivered: dict[int, _Delivered] = {}
        self.handled_ms: int | None = None
        self.at_end: float | None = None
        self.behind = (-1, 0.0)


class Ages:
    """Of all partitions of one consumer. It costs microseconds for each chunk."""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._partitions: dict[Any, _Partition] = {}

    def _of(self, tp: Any) -> _Partition:
        return self._partitions.setdefault(tp, _Partition())

    def deliver(self, message: ChunkMessage, records: Sequence[Any], end: int | None) -> None:
        """Note a chunk that the agent gets; `end`: of the log, if known."""
        partition, now = self._of(message.tp), self._monotonic()
        partition.delivered[message.first] = _Delivered(records, now, partition.at_end)
        if end is not None and message.last + 1 >= end:
            partition.at_end = now

    def handle(self, message: ChunkMessage) -> None:
        """Note that a delivered chunk is acknowledged."""
        partition = self._partitions.get(message.tp)
        if partition is not None and (chunk := partition.delivered.pop(message.first, None)):
            partition.handled_ms = max(partition.handled_ms or 0, chunk.last_ms) or None

    def forget(self, tp: Any) -> None:
        """The partition is lost, or its log was replaced."""
        self._partitions.pop(tp, None)

    def seconds(self, tp: Any, following: int | None, end: int | None) -> float | None:
        """The age of the oldest record from the offset `following` on; 0 if there is none.

        None if not known yet. Call it regularly: each call learns where the log ends.
        """
        if following is None or end is None:
            return None
        partition, now = self._of(tp), self._monotonic()
        if following >= end:
            partition.at_end = now
            partition.behind = following, now
            return 0.0
        if partition.behind[0] != following:
            partition.behind = following, now
        return self._age(partition, following, now)

    def _age(self, partition: _Partition, following: int, now: float) -> float:
        since, oldest_ms, after = partition.behind[1], partition.handled_ms, partition.at_end
        # Chunks are delivered in order, and a rebalance may leave some that are handled.
        chunk = next((c for first, c in partition.delivered.items() if first >= following), None)
        if chunk is not None:
            since, after = min(since, chunk.at), chunk.after
            oldest_ms = chunk.first_ms if chunk.first_ms is not None else oldest_ms
        least, most = now - since, None if after is None else now - after
        if oldest_ms is None:
            return least
        age = self._clock() - oldest_ms / 1000
        return max(least, age if most is None else min(age, most))
