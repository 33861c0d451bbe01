"""A Faust consumer that delivers one event per fetched chunk of one partition.

Stock Faust spends several asyncio tasks on each record and acknowledges what an agent failed
to handle. Here an event's value is a `Chunk`, its ack covers the whole chunk, and the offset
that is committed never passes a record that was not acknowledged:

- a watermark per partition moves over contiguous acknowledged ranges only;
- a hole in the offsets counts as a gap in the log only after the log was read again from the
  hole's first offset and the hole is still there, because around a rebalance the fetcher
  drops records that its position has already passed; with the embedded broker, which may show
  a record before the one below it is written, only if it is there for a second;
- whoever drops records seeks back to them;
- what is acknowledged is committed before partitions are given up.

Use with `stream.noack().events()` and `event.ack()`, and `concurrency=1`.
It overrides internals of faust-streaming 0.15.3 and aiokafka 0.14.0, both pinned.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ack_lock
from mode.utils.futures import notify

from streams.records import Chunk, Holes, find_hole
from streams.transport.acks import ChunkMessage, Watermark
from streams.transport.thread import ConsumerThread

POLL_SECONDS = 1.0
QUEUED_CHUNKS = 4  # fetched chunks that wait for the agent
ROOM_POLL_SECONDS = 0.001
# After a change of its leader a log may for a moment claim to end before what was read of it.
SHORT_LOG_SECONDS = 5.0


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Delivers chunks; see the module's text for the rules it keeps."""

    _n_acked: int
    _progress: int
    _marks: dict[TP, Watermark]
    _holes: Holes  # that are being read again
    _dropped: set[TP]  # partitions of which fetched records were not delivered
    _short_since: dict[TP, float]  # since when a log ends before what was read of it

    def on_init(self) -> None:
        super().on_init()
        self._progress = 0
        self._marks = {}
        self._holes = Holes()
        self._dropped = set()
        self._short_since = {}

    def ack_chunk(self, message: ChunkMessage) -> bool:
        """Acknowledge a chunk of the current generation; one of an older one changes nothing."""
        with ack_lock:
            if message.acked:
                return False
            message.acked = True
            if self._marks.get(message.tp) is message.mark:
                message.mark.ack(message.first, message.last)
                self._n_acked += message.last - message.first + 1
            self._unacked_messages.discard(message)
            self._progress += 1
            notify(self._waiting_for_ack)
            return True

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Any:
        return [tp for tp in self._marks if topics is None or tp in topics or tp.topic in topics]

    def _new_offset(self, tp: TP) -> int | None:
        mark = self._marks.get(tp)
        return mark.next if mark is not None and mark.next > mark.base else None

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._holes.clear()
        self._progress += 1
        # Faust forgets what was acknowledged before it commits.
        await self.commit()
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._marks.pop(tp, None)

    @property
    def progress(self) -> int:
        """Grows with every acknowledged chunk and every change of the assignment."""
        return self._progress

    def pending(self) -> bool:
        """Whether work waits here: chunks without an ack, or records that were not fetched."""
        if not self.flow_active or self.app.rebalancing:
            return False
        assigned = self.assignment()
        return any(self._is_unfinished(tp) or self._is_behind(tp) for tp in assigned)

    def positions(self) -> dict[TP, tuple[int | None, int | None]]:
        """Of each assigned partition the next offset to commit and the log's end, if known."""
        return {tp: (self._next(tp), self.highwater(tp)) for tp in sorted(self.assignment())}

    def _next(self, tp: TP) -> int | None:
        mark = self._marks.get(tp)
        return mark.next if mark is not None else self._read_offset[tp]

    def read_again(self) -> None:
        """Go back to where records end that were delivered, if the log claims to go on there.

        The hole may be real (a transaction's marker), or records that were fetched and lost.
        """
        for tp in self.assignment():
            read, end = self._read_offset[tp], self.highwater(tp)
            if read is not None and end is not None and read < end and not self._is_behind(tp):
                self._dropped.add(tp)

    def _is_unfinished(self, tp: TP) -> bool:
        mark = self._marks.get(tp)
        return mark is not None and self._read_offset[tp] not in (None, mark.next)

    def _is_behind(self, tp: TP) -> bool:
        """Whether aiokafka knows of records that it has not given to us."""
        subscription = self._thread._ensure_consumer()._subscription.subscription
        position = subscription.assignment.state_value(tp).position
        end = self.highwater(tp)
        return position is not None and end is not None and bool(position < end)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust would look for events of single records here and miss them."""

    async def resume_offset(self, tp: TP) -> int:
        """Where to read when nothing was read yet: the committed offset, or the log's start."""
        committed = await self._thread.committed(tp)
        if committed is not None:
            return int(committed)
        return int((await self._thread.earliest_offsets(tp))[tp])

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            await self._drain(fetcher)
        except (asyncio.CancelledError, *self.consumer_stopped_errors):
            # A stop amid a rebalance cancels a fetch that waits for its partitions.
            if not self.app.should_stop:
                raise

    async def _drain(self, fetcher: Any) -> None:
        while not (self.should_stop or fetcher.should_stop):
            await self._seek_dropped()
            if self._commit_every is not None and self._n_acked >= self._commit_every:
                self._n_acked = 0
                await self.commit()
            fetched, _ = await self._wait_next_records(POLL_SECONDS)
            if fetched:
                await self._deliver_all(fetched, fetcher)
            elif self.flow_active:
                await self._look_for_short_logs(time.monotonic())
            await asyncio.sleep(0)

    async def _look_for_short_logs(self, now: float) -> None:
        """A broker may answer nothing at all where a log that was made again is too short."""
        for tp in self.assignment():
            read = self._read_offset[tp]
            if read is None or not self._ends_before(tp, read):
                self._short_since.pop(tp, None)
            elif now - self._short_since.setdefault(tp, now) > SHORT_LOG_SECONDS:
                del self._short_since[tp]
                self.on_log_replaced(tp, read)
                await self._seek_and_note(tp, (await self._thread.earliest_offsets(tp))[tp])

    async def _seek_dropped(self) -> None:
        if not (self._dropped and self.flow_active):
            return
        for tp in self._dropped & self.assignment():
            await self._seek_and_note(tp, await self._expected(tp))
        self._dropped.clear()

    async def _seek_and_note(self, tp: TP, offset: int) -> None:
        await self.seek(tp, offset)
        self._read_offset[tp] = offset

    async def _expected(self, tp: TP) -> int:
        offset = self._read_offset[tp]
        return int(offset) if offset is not None else await self.resume_offset(tp)

    async def _deliver_all(self, fetched: Mapping[TP, list[Any]], fetcher: Any) -> None:
        generation = self.app.consumer_generation_id

        def current() -> bool:
            return (
                self.flow_active
                and self.app.consumer_generation_id == generation
                and not fetcher.should_stop
            )

        for tp, records in fetched.items():
            if not await self._deliver(tp, records, generation, current):
                self._holes.clear()
                self._dropped.update(fetched)
                return

    async def _deliver(
        self, tp: TP, records: list[Any], generation: int, current: Callable[[], bool]
    ) -> bool:
        """Hand the records to the agent; False if the partition may be lost meanwhile."""
        channels = self.app.topics._tp_index.get(tp)
        if not channels:
            return True
        expected = await self._expected(tp)
        if not current():
            return False
        if records[0].offset < expected and self._ends_before(tp, expected):
            self.on_log_replaced(tp, expected)
            expected = records[0].offset
        if records[0].offset > expected and not self._is_real_hole(tp, expected):
            await self._seek_and_note(tp, expected)
            return True
        self._holes.forget(tp)
        if records[0].offset < expected:
            records = [r for r in records if r.offset >= expected]
        if not records:
            return True
        for channel in channels:
            while channel.queue.qsize() >= QUEUED_CHUNKS and current():  # noqa: ASYNC110
                await asyncio.sleep(ROOM_POLL_SECONDS)  # Faust's queue cannot be awaited for room
        if not current():
            return False
        before = find_hole(records, records[0].offset) if self.transport.hole_seconds else None
        self._put(tp, records[:before], expected, generation)
        if before is not None:
            await self._seek_and_note(tp, records[before - 1].offset + 1)
        return True

    def _is_real_hole(self, tp: TP, first: int) -> bool:
        return self._holes.is_real(tp, first, time.monotonic(), self.transport.hole_seconds)

    def _ends_before(self, tp: TP, offset: int) -> bool:
        end = self.highwater(tp)
        return end is not None and end < offset

    def on_log_replaced(self, tp: TP, expected: int) -> None:
        """Read a log that was made again from its beginning."""
        self.log.warning(
            "%s[%s] ends before offset %s: the topic was made again; reading it from its beginning",
            tp.topic, tp.partition, expected,
        )  # fmt: skip
        self._marks.pop(tp, None)
        self._committed_offset[tp] = None

    def _put(self, tp: TP, records: list[Any], first: int, generation: int) -> None:
        mark = self._marks.get(tp)
        if mark is None or mark.generation != generation:
            self._marks[tp] = Watermark(first, generation)
        channels = self.app.topics._tp_index[tp]
        message = ChunkMessage(
            tp.topic, tp.partition, first, 0.0, 0, [], None, None, None, 0, 0, tp,
            generation_id=generation,
        )  # fmt: skip
        message.first, message.last = first, records[-1].offset
        message.mark = self._marks[tp]
        message.incref(len(channels))
        chunk = Chunk(tp.topic, tp.partition, first, records)
        event = self.app.create_event(None, chunk, None, message)
        for channel in channels:
            channel.queue.force_put_nowait(event)
        self._read_offset[tp] = message.last + 1

    def _new_consumer_thread(self) -> Any:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)
