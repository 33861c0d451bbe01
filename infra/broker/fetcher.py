"""A faster and safer fetcher for aiokafka, for every consumer of this project.

Stock aiokafka 0.14.0 passes each record through two generators and copies it into a frozen
dataclass of 11 fields, a third of a busy worker's time. It raises at a batch that it cannot decode,
at every fetch again, and decompresses without a limit. Here records come in lists, and such a batch
becomes an `UndecodableBatch` in one of them. Unchanged are offsets, checksums, control batches,
aborted transactions, and the rule that a position never passes a record that was not returned.
While nothing comes, the broker holds a fetch longer, so that an idle process costs little.
Consumers of other code in the same process keep aiokafka's own fetcher.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FunctionType
from typing import Any, ClassVar, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaError
from typing_extensions import override

from infra.broker.batches import BadBatch, Frames, UndecodableBatch, decode, parse, set_aside
from infra.broker.coordinator import Coordinator
from infra.config import Settings
from infra.topics import CHUNK_BYTES, MAX_BATCH_RECORDS

END_SECONDS = 1.0
QUIET_SHARE = 0.1
QUIET_WAIT_MS = 500
EMBEDDED_QUIET_WAIT_MS = 35
READ_COMMITTED, READ_UNCOMMITTED = "read_committed", "read_uncommitted"

logger = logging.getLogger(__name__)


class PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """One partition's part of a fetch response, as lists.

    For consumers without deserializers. `end`: the log's high watermark, if it is known.
    """

    _records: Frames
    _ready: Sequence[Any] = ()
    _after_ready: int
    _bytes: int
    _limit: int
    end: int | None = None

    def take(self, most: int) -> tuple[list[Any], bool]:
        """Up to `most` records, and whether there are more. Moves `next_fetch_offset`.

        Fewer, if the batches that were opened for them have CHUNK_BYTES together.
        """
        taken: list[Any] = []
        self._bytes = 0
        # A watermark may be a little older than the records.
        self._limit = sys.maxsize if self.end is None else self.end + MAX_BATCH_RECORDS
        while len(taken) < most and (self._ready or self._bytes < CHUNK_BYTES) and self._fill():
            room = most - len(taken)
            taken += self._ready[:room]
            self._ready = self._ready[room:]
            self.next_fetch_offset = self._after_ready if not self._ready else taken[-1].offset + 1
        return taken, bool(self._ready) or self._records.has_next()

    def _fill(self) -> bool:
        """Have at least one record ready; False at the end of the response."""
        while not self._ready and self._records.has_next():
            frame = self._records.next()
            try:
                batch = parse(frame)
                after = batch.next_offset
                if not 0 < after <= self._limit:  # the checksum does not cover the base offset
                    raise BadBatch(f"it would end before the offset {after}: it is damaged")
                self._after_ready = max(after, self.next_fetch_offset)
                ready, size = ([], 0) if self._is_skipped(batch) else decode(frame, batch)
                self._bytes += size
            except BadBatch as e:
                ready = [self._set_aside(frame, str(e))]
            if ready and ready[0].offset < self.next_fetch_offset:
                ready = [r for r in ready if r.offset >= self.next_fetch_offset]
            if not ready:
                self.next_fetch_offset = self._after_ready
            self._ready = ready
        return bool(self._ready)

    def _is_skipped(self, batch: Any) -> bool:
        """Whether a batch has nothing for readers: a transaction's marker, or what it aborted."""
        if not batch.is_transactional or self._isolation_level != fetcher.READ_COMMITTED:
            return bool(batch.is_control_batch)
        self._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch:
            if self._is_abort(batch):
                self._aborted_producers.discard(batch.producer_id)
            return True
        return batch.producer_id in self._aborted_producers

    def _is_abort(self, batch: Any) -> bool:
        try:
            return bool(self._contains_abort_marker(batch))
        except Exception as e:  # as in `decode`
            raise BadBatch(f"it is no marker of a transaction: {e}") from e

    def _set_aside(self, frame: memoryview, reason: str) -> UndecodableBatch:
        bad = set_aside(
            self._tp, frame, reason, self.next_fetch_offset, self._records.following(), self.end
        )
        self._after_ready = bad.last + 1
        # The next frames may be no batches, and a transaction's end may be missed: fetch again.
        self._records = Frames(None)
        logger.warning(
            "%s[%s]: the batch of the offsets %s to %s cannot be decoded and is passed over: %s",
            bad.topic, bad.partition, bad.first, bad.last, reason,
        )  # fmt: skip
        return bad


class FetchResult(fetcher.FetchResult):  # type: ignore[misc]
    """Returns lists instead of iterating."""

    _partition_records: PartitionRecords | None

    @override
    def getall(self, max_records: int | None = None) -> list[Any]:
        """Take all records in one list; aiokafka makes them one by one."""
        if self._partition_records is None or not self.check_assignment(self._topic_partition):
            return []
        self._partition_records.end = self._assignment.state_value(self._topic_partition).highwater
        taken, more = self._partition_records.take(max_records or 2**31)
        self._update_position()
        if not more:
            self._partition_records = None
        return taken


class FullFetchResult(FetchResult):
    """Returns records with a topic and a partition, as aiokafka does."""

    @override
    def getall(self, max_records: int | None = None) -> list[Any]:
        records, tp = self._partition_records, self._topic_partition
        return [
            r if type(r) is UndecodableBatch else PartitionRecords._consumer_record(records, tp, r)
            for r in super().getall(max_records)
        ]


def rebound(function: Callable[..., Any], **names: Any) -> Any:
    """A function of aiokafka that finds other classes under these names of its module."""
    module = {**function.__globals__, **names}
    bound = FunctionType(function.__code__, module, None, function.__defaults__)
    bound.__kwdefaults__ = function.__kwdefaults__
    return bound


class FetchWait(NamedTuple):
    """Milliseconds that the broker holds a fetch without records: the least and the most."""

    busy: int
    quiet: int

    def after(self, seconds: float) -> int:
        """How long after so many seconds without records: a share of them, within the limits."""
        return round(min(max(self.busy, seconds * 1000 * QUIET_SHARE), self.quiet))


def fetch_wait(settings: Settings) -> FetchWait:
    """How long the broker in use may hold a fetch.

    Apache Kafka responds as soon as a record comes. The embedded broker looks for one after half of
    the time and at its end, so a long wait would delay it.
    """
    busy = settings.fetch_wait_ms
    return FetchWait(busy, max(busy, QUIET_WAIT_MS if settings.broker else EMBEDDED_QUIET_WAIT_MS))


class PatientFetcher(fetcher.Fetcher):  # type: ignore[misc]
    """aiokafka's fetcher, which asks less often while nothing comes.

    A long fetch is safe only if it covers all partitions: until it ends, aiokafka asks the same
    broker for no other ones. While records wait to be taken, or a partition is paused, it is short.
    For consumers whose `fetch_max_wait_ms` is a FetchWait.
    """

    def __init__(self, *args: Any, fetch_max_wait_ms: FetchWait, **kwargs: Any) -> None:
        self._wait = fetch_max_wait_ms
        self._records_at = time.monotonic()
        super().__init__(*args, fetch_max_wait_ms=fetch_max_wait_ms.busy, **kwargs)

    @override
    def _get_actions_per_node(self, assignment: Any) -> Any:
        """Also set how long the next fetches may take."""
        now = time.monotonic()
        if self._records or any(assignment.state_value(tp).paused for tp in assignment.tps):
            self._records_at = now
        self._fetch_max_wait_ms = self._wait.after(now - self._records_at)
        return super()._get_actions_per_node(assignment)


class LeanFetcher(PatientFetcher):
    """aiokafka's fetcher over the classes of this module."""

    _ours: ClassVar = {
        "MemoryRecords": Frames, "PartitionRecords": PartitionRecords, "FetchResult": FetchResult
    }  # fmt: skip
    _proc_fetch_request = rebound(fetcher.Fetcher._proc_fetch_request, **_ours)
    fetched_records = rebound(fetcher.Fetcher.fetched_records, **_ours)


class Fetcher(PatientFetcher):
    """The same, whose records have a topic and a partition."""

    _ours: ClassVar = {**LeanFetcher._ours, "FetchResult": FullFetchResult}
    _proc_fetch_request = rebound(fetcher.Fetcher._proc_fetch_request, **_ours)
    fetched_records = rebound(fetcher.Fetcher.fetched_records, **_ours)


class LeanConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """aiokafka's consumer for `getmany`. Its records have no topic and no partition."""

    start = rebound(AIOKafkaConsumer.start, Fetcher=LeanFetcher, GroupCoordinator=Coordinator)


class Consumer(AIOKafkaConsumer):  # type: ignore[misc]
    """aiokafka's consumer for `getmany`."""

    start = rebound(AIOKafkaConsumer.start, Fetcher=Fetcher)


def isolation_level(settings: Settings) -> str:
    """Committed records only, except on the embedded broker.

    That one does not say which transactions were aborted, and never ends one whose producer died.
    """
    return READ_COMMITTED if settings.broker else READ_UNCOMMITTED


def readable_end(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int | None:
    """The end of what a consumer can read: the log's, or before the first open transaction.

    None before the first fetch.
    """
    end: int | None = consumer.highwater(partition)
    if end is None or consumer._isolation_level != READ_COMMITTED:
        return end
    stable = consumer.last_stable_offset(partition)
    return end if stable is None or stable < 0 else min(end, stable)


async def checked_end(
    consumer: AIOKafkaConsumer, partition: TopicPartition, position: int
) -> int | None:
    """The log's end. One before `position` is asked for again; None if it is not sure.

    After an election, a leader may answer fetches with an end that is too low until enough replicas
    have fetched from it. Until then it does not answer this question.
    """
    end: int | None = consumer.highwater(partition)
    if end is None or end >= position:
        return end
    with suppress(KafkaError, TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            return int((await consumer.end_offsets([partition]))[partition])
    return None
