"""A Faust consumer that delivers one event for each chunk that it fetches of a partition.

Stock Faust spends several asyncio tasks on each record, and acknowledges records that an agent
failed to handle. Here an event's value is a `Chunk` and its ack covers the whole chunk. The
committed offset never passes a record that was not acknowledged. Four rules keep it so:

- Each partition has a watermark, which moves over contiguous acknowledged ranges only.
- Around a rebalance, a fetcher drops records that its position has already passed. So a gap in
  the offsets is read a second time before it counts (`streams.records.OffsetPolicy`).
- Code that drops fetched records seeks back to them.
- Acknowledged offsets are committed before their partitions are given up.

Use it with `stream.noack().events()`, `event.ack()` and `concurrency=1`.
It overrides internals of faust-streaming 0.15.3 and aiokafka 0.14.0; both are pinned.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ack_lock
from mode.utils.futures import notify
from typing_extensions import override

from streams.records import Chunk, OffsetPolicy, Reading
from streams.transport.acks import ChunkMessage, Watermark
from streams.transport.attempts import Attempts
from streams.transport.thread import ConsumerThread

POLL_SECONDS = 1.0
MAX_QUEUED_CHUNKS = 4  # fetched chunks that wait for the agent
ROOM_POLL_SECONDS = 0.001


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Delivers chunks, by the rules in the module's text."""

    _n_acked: int
    _progress: int
    _marks: dict[TP, Watermark]
    _policy: OffsetPolicy
    _dropped: set[TP]  # partitions of which fetched records were not delivered

    @override
    def on_init(self) -> None:
        """Add the state of this class."""
        super().on_init()
        self._progress = 0
        self._marks = {}
        self._policy = self.transport.offset_policy
        self._attempts: Attempts | None = None
        self._dropped = set()

    def ack_chunk(self, message: ChunkMessage) -> bool:
        """Acknowledge a chunk; False if it was acknowledged before.

        The watermark moves only if the chunk is of the current generation.
        """
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
        if message.alone:
            self._finish_alone(message)
        return True

    def _finish_alone(self, message: ChunkMessage) -> None:
        if self._marks.get(message.tp) is message.mark:
            self.resume_partitions({ensure_TP(message.tp)})
            self._n_acked = self._commit_every or 0  # what is found is not to be found again

    def found_alone(self, tp: TP, offset: int) -> None:
        """A record that was handled alone was set aside."""
        if self._attempts is not None:
            self._attempts.found(tp, offset)

    def note_progress(self) -> None:
        """A chunk is still in process, and has a deadline of its own."""
        self._progress += 1

    @override
    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Any:
        """Look at the watermarks in place of Faust's lists of acknowledged offsets."""
        return [tp for tp in self._marks if topics is None or tp in topics or tp.topic in topics]

    @override
    def _new_offset(self, tp: TP) -> int | None:
        """Commit the watermark; Faust's rule commits past records that are not acknowledged."""
        mark = self._marks.get(tp)
        return mark.next if mark is not None and mark.next > mark.base else None

    @override
    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit first: Faust forgets acknowledged offsets before it commits."""
        self._policy.clear()
        self._progress += 1
        await self.commit()
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            await self._reset_attempts(tp)
            self._marks.pop(tp, None)

    @override
    async def on_stop(self) -> None:
        """Commit, and note that it was an orderly end."""
        await super().on_stop()
        for tp in list(self._marks):
            await self._reset_attempts(tp)

    async def _reset_attempts(self, tp: TP) -> None:
        unfinished = any(m.tp == tp and not m.acked for m in self._unacked_messages)
        if self._attempts is not None and not unfinished:
            mark = self._marks.get(tp)
            await self._attempts.reset(tp, None if mark is None else mark.next)

    @property
    def progress(self) -> int:
        """Grows with every acknowledged chunk and every change of the assignment."""
        return self._progress

    def pending(self) -> bool:
        """Whether there is work: chunks without an ack, or records that were not fetched."""
        if not self.flow_active or self.app.rebalancing:
            return False
        assigned = self.assignment()
        return any(self._is_unfinished(tp) or self._is_behind(tp) for tp in assigned)

    def positions(self) -> dict[TP, tuple[int | None, int | None]]:
        """The next offset to commit and the log's end, if known, of each assigned partition."""
        return {tp: (self._next(tp), self.highwater(tp)) for tp in sorted(self.assignment())}

    def _next(self, tp: TP) -> int | None:
        mark = self._marks.get(tp)
        return mark.next if mark is not None else self._read_offset[tp]

    def reread_dropped(self) -> None:
        """Go back to the end of the delivered records, if the log claims to continue there.

        Either it has a gap there (a transaction's marker), or fetched records were dropped.
        """
        for tp in self.assignment():
            read, end = self._read_offset[tp], self.highwater(tp)
            if read is not None and end is not None and read < end and not self._is_behind(tp):
                self._dropped.add(tp)

    def _is_unfinished(self, tp: TP) -> bool:
        mark = self._marks.get(tp)
        return mark is not None and self._read_offset[tp] not in (None, mark.next)

    def _is_behind(self, tp: TP) -> bool:
        """Whether aiokafka knows of records that it has not returned yet."""
        subscription = self._thread._ensure_consumer()._subscription.subscription
        position = subscription.assignment.state_value(tp).position
        end = self.highwater(tp)
        return position is not None and end is not None and bool(position < end)

    @override
    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust would look for events of single records here and miss them."""

    async def resume_offset(self, tp: TP) -> int:
        """Where to begin: the committed offset, or the log's start."""
        committed = await self._thread.committed(tp)
        if committed is not None:
            return int(committed)
        return int((await self._thread.earliest_offsets(tp))[tp])

    @override
    async def _drain_messages(self, fetcher: Any) -> None:
        """Deliver chunks; Faust delivers single records."""
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
                await self._read_replaced_logs()
            await asyncio.sleep(0)

    async def _read_replaced_logs(self) -> None:
        consumer = self._thread._ensure_consumer()
        for tp in self.assignment():
            read, answered_ms = self._read_offset[tp], consumer.last_poll_timestamp(tp)
            if read is None or answered_ms is None:
                continue
            if self._policy.is_replaced(tp, read, self.highwater(tp), answered_ms / 1000):
                self._forget_log(tp)
                await self._seek_and_note(tp, (await self._thread.earliest_offsets(tp))[tp])

    def _forget_log(self, tp: TP) -> None:
        """Offsets of the old log mean nothing in the new one."""
        self._marks.pop(tp, None)
        self._committed_offset[tp] = None

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
                self._policy.clear()
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
        await self._begin(tp, expected, generation)
        if not current():
            return False
        reading = self._policy.read(tp, expected, records, self.highwater(tp))
        if reading.replaced:
            self._forget_log(tp)
        if self._attempts is not None:
            reading = self._attempts.limit(tp, reading)
        if reading.records:
            for channel in channels:
                while channel.queue.qsize() >= MAX_QUEUED_CHUNKS and current():  # noqa: ASYNC110
                    await asyncio.sleep(ROOM_POLL_SECONDS)  # Faust's queue has no wait for room
            if not current():
                return False
            self._put(tp, reading, generation)
        if reading.seek is not None:
            await self._seek_and_note(tp, reading.seek)
        return True

    async def _begin(self, tp: TP, offset: int, generation: int) -> None:
        """Before the first records of a partition: count an attempt at this offset."""
        if self.transport.attempt_settings is None:
            return
        if self._attempts is None:
            self._attempts = Attempts(self.transport.attempt_settings, self._thread)
        await self._attempts.begin(tp, generation, offset, self.highwater(tp))

    def _put(self, tp: TP, reading: Reading, generation: int) -> None:
        first, records = reading.first, reading.records
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
        message.alone = self._attempts is not None and self._attempts.is_alone(tp, first)
        if message.alone:  # its chunks stay in order although the agent does not wait for them
            self.pause_partitions({ensure_TP(tp)})
        message.incref(len(channels))
        chunk = Chunk(tp.topic, tp.partition, first, records, message.alone)
        event = self.app.create_event(None, chunk, None, message)
        for channel in channels:
            channel.queue.force_put_nowait(event)
        self._read_offset[tp] = message.last + 1

    @override
    def _new_consumer_thread(self) -> Any:
        """Use `ConsumerThread`, which runs in the application's loop."""
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)
