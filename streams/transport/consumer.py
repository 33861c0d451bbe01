"""A Faust consumer that delivers one event for each chunk that it fetches of a partition.

Stock Faust spends several asyncio tasks on each record, and acknowledges records that an agent
failed to handle. Here an event's value is a `Chunk` and its ack covers the whole chunk. The
committed offset never passes a record that was not acknowledged. Four rules keep it so:

- Each partition has a watermark, which moves over contiguous acknowledged ranges only.
- Around a rebalance, a fetcher drops records that its position has already passed. So a gap in
  the offsets is read a second time before it counts (`streams.records.OffsetPolicy`).
- Code that drops fetched records seeks back to them.
- Acknowledged offsets are committed before their partitions are given up.

Offsets belong to one log (`infra.broker.log_id`). When the topic is recreated, the consumer forgets
what it knows of the former log and reads the new one from its beginning. What is committed names
its log, so that an offset of a former log, committed late, is not taken for one of the new log.

Use it with `stream.noack().events()`, `event.ack()` and `concurrency=1`.
It overrides internals of faust-streaming 0.15.3 and aiokafka 0.14.0; both are pinned.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ack_lock
from mode.utils.futures import notify
from typing_extensions import override

from infra.broker.fetcher import checked_end, readable_end
from infra.broker.log_id import LogIds, is_same_log
from infra.process.status import Lag
from streams import commit_metadata
from streams.commit_metadata import CommitMetadata
from streams.records import Chunk, OffsetPolicy, Reading, first_offset
from streams.transport.acks import ChunkMessage, Watermark
from streams.transport.ages import Ages
from streams.transport.attempts import Attempts
from streams.transport.thread import ConsumerThread

POLL_SECONDS = 1.0
MAX_QUEUED_CHUNKS = 4  # fetched chunks that wait for the agent
ROOM_POLL_SECONDS = 0.001
COMMIT_RETRY_SECONDS = 0.1

logger = logging.getLogger("petalstream")


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Delivers chunks, by the rules in the module's text."""

    commits: int  # that the broker took
    _n_acked: int
    _progress: int
    _marks: dict[TP, Watermark]
    _policy: OffsetPolicy
    _logs: LogIds
    _topic: str  # as soon as partitions are assigned
    _log: str  # the id of the log to which all offsets here belong; empty before that
    _dropped: set[TP]  # partitions of which fetched records were not delivered
    # Where to read on, if there are no records from the end of the delivered ones up to there.
    _passed: dict[TP, int]

    @override
    def on_init(self) -> None:
        """Add the state of this class."""
        super().on_init()
        self._progress = self.commits = 0
        self._ages = Ages()
        self._marks = {}
        self._policy = self.transport.offset_policy
        self._attempts: Attempts | None = None
        self._logs = self.transport.logs
        self._topic = self._log = ""
        self._dropped = set()
        self._passed = {}

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
            self._ages.handle(message)
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
        mark, following = self._marks.get(tp), self._next(tp)
        if mark is None or following is None or following <= mark.base:
            return None
        return following

    @override
    def _should_commit(self, tp: TP, offset: int) -> bool:
        """Leave it to the watermark; Faust compares with what it tried to commit before."""
        return True

    @property
    def log_name(self) -> str:
        """The log of the chunks that are delivered now."""
        return self._log

    def commit_metadata(self, _tp: TP) -> CommitMetadata:
        """What to commit beside the offset of a partition."""
        return CommitMetadata(log=self._log)

    @override
    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit, if the log is still that of the offsets; False if they mean nothing any more."""
        log = self._log
        # Faust has awaited something since it asked for the offsets.
        marks = {
            tp: mark
            for tp, offset in offsets.items()
            if (mark := self._marks.get(tp)) and (self._next(tp) or 0) >= offset
        }
        named = {
            tp: OffsetAndMetadata(offsets[tp], commit_metadata.encode(self.commit_metadata(tp)))
            for tp in marks
        }
        while (committed := await self._try_commit(log, named)) is None:  # noqa: ASYNC110
            await asyncio.sleep(COMMIT_RETRY_SECONDS)
        if committed:
            self.commits += 1
            for tp, mark in marks.items():
                mark.base = offsets[tp]
        return committed

    async def _try_commit(self, log: str, offsets: Mapping[TP, OffsetAndMetadata]) -> bool | None:
        """Whether it was committed; None to try again.

        The log is looked at right before. aiokafka would repeat its request until a broker takes
        it, even one that has another log by then.
        """
        try:
            await self._thread.find_coordinator()
            if not is_same_log(await self._logs.confirm(self._topic), log):
                return False
            return bool(await self._thread.commit_once(offsets))
        except KafkaError as e:
            if e.retriable:
                return None
            self.app.end_if_refused(e)
            await self.crash(e)
            return False

    @override
    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit first: Faust forgets acknowledged offsets before it commits."""
        self._policy.clear()
        self._progress += 1
        await self.commit_and_end_transactions()
        if self.app.should_stop:  # from here on Faust does not wait for the chunks in hand
            await self.wait_empty()
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            await self._reset_attempts(tp)
            self._marks.pop(tp, None)
            self._passed.pop(tp, None)
            self._ages.forget(tp)

    @override
    async def commit_and_end_transactions(self) -> None:
        """Commit all that is acknowledged; a commit under way may have begun before some of it."""
        await self.maybe_wait_for_commit_to_finish()
        await super().commit_and_end_transactions()

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
        """Whether there is work: chunks without an ack, or records that were not fetched.

        A rebalance waits for the chunks that the agent has, so one that never ends counts then too.
        """
        if any(not message.acked for message in self._unacked_messages):
            return True
        if not self.flow_active or self.app.rebalancing:
            return False
        assigned = self.assignment()
        return any(self._is_unfinished(tp) or self._is_behind(tp) for tp in assigned)

    def positions(self) -> dict[TP, tuple[int | None, int | None]]:
        """The next offset to commit and the log's end, if known, of each assigned partition.

        Records of an open transaction are beyond the end.
        """
        return {tp: (self._next(tp), self._end(tp)) for tp in sorted(self.assignment())}

    def lags(self) -> list[Lag]:
        """The positions of each assigned partition, and for how long its oldest record waits."""
        positions = self.positions().items()
        return [Lag(tp.partition, *at, self._ages.seconds(tp, *at)) for tp, at in positions]

    def uncommitted(self) -> bool:
        """Whether records are handled and their offsets not committed yet."""
        return any(mark.next > mark.base for mark in self._marks.values())

    def is_connected(self) -> bool:
        """Whether the coordinator of the group is known: a broker that is away has none."""
        return bool(self._thread.has_coordinator())

    def _end(self, tp: TP) -> int | None:
        return readable_end(self._thread._ensure_consumer(), tp)

    def _next(self, tp: TP) -> int | None:
        mark = self._marks.get(tp)
        if mark is not None and mark.next != self._read_offset[tp]:
            return mark.next
        following: int | None = self._passed.get(tp, self._read_offset[tp])
        return following

    def foreign_partitions(self, topic: str) -> list[int] | None:
        """The partitions of the topic that another member of the group reads; None: not known."""
        known = self._thread.partitions_of(topic)
        if not known or not self.flow_active or self.app.rebalancing:
            return None
        return sorted(set(known) - {tp.partition for tp in self.assignment()})

    def leads(self) -> bool:
        """Whether this member leads its group."""
        return bool(self._thread.leads())

    async def leave(self) -> None:
        """Leave the group, because the process ends."""
        await self._thread.leave_group()

    def reread_dropped(self) -> None:
        """Go back to the end of the delivered records, if the log claims to continue there.

        Either it has a gap there (a transaction's marker), or fetched records were dropped.
        """
        for tp in self.assignment():
            read, end = self._passed.get(tp, self._read_offset[tp]), self._end(tp)
            if read is not None and end is not None and read < end and not self._is_behind(tp):
                self._dropped.add(tp)

    def _is_unfinished(self, tp: TP) -> bool:
        mark = self._marks.get(tp)
        return mark is not None and self._read_offset[tp] not in (None, mark.next)

    def _is_behind(self, tp: TP) -> bool:
        """Whether aiokafka knows of records that it has not returned yet."""
        position, end = self._position(tp), self._end(tp)
        return position is not None and end is not None and position < end

    def _position(self, tp: TP) -> int | None:
        """From where aiokafka fetches next."""
        subscription = self._thread._ensure_consumer()._subscription.subscription
        state = subscription.assignment.state_value(tp)
        # While aiokafka looks for the offset to begin at, its property fails.
        return state.position if state.has_valid_position else None

    @override
    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust would look for events of single records here and miss them."""

    @override
    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to where each partition resumes.

        Faust would seek to the committed offsets, whatever log they belong to.
        """
        tps = sorted(self.assignment())
        if not tps:
            return {}
        self._topic = tps[0].topic
        if await self._enter(await self._logs.confirm(self._topic)):
            offsets: Mapping[TP, int] = await self._thread.earliest_offsets(*tps)
        else:
            offsets = await self.resume_offsets(tps)
        for tp, offset in offsets.items():
            await self._seek(tp, offset)
        return offsets

    async def resume_offsets(self, tps: Sequence[TP]) -> Mapping[TP, int]:
        """Where to begin in each partition: at the offset committed for this log, or its start."""
        committed = await self._thread.committed(tps)
        ours = {
            tp: c.offset
            for tp, c in committed.items()
            if commit_metadata.is_of_log(c.metadata, self._log)
        }
        others = [tp for tp in tps if tp not in ours]
        return {**ours, **(await self._thread.earliest_offsets(*others) if others else {})}

    @override
    async def _drain_messages(self, fetcher: Any) -> None:
        """Deliver chunks; Faust delivers single records."""
        try:
            await self._drain(fetcher)
        except (asyncio.CancelledError, *self.consumer_stopped_errors):
            # A stop amid a rebalance cancels a fetch that waits for its partitions.
            if not self.app.should_stop:
                raise
        except KafkaError as e:
            self.app.end_if_refused(e)  # Faust would log a traceback first
            raise

    async def _drain(self, fetcher: Any) -> None:
        while not (self.should_stop or fetcher.should_stop):
            await self._read_new_log()
            await self._seek_dropped()
            if self._commit_every is not None and self._n_acked >= self._commit_every:
                self._n_acked = 0
                await self.commit()
            fetched, _ = await self._wait_next_records(POLL_SECONDS)
            if fetched:
                await self._deliver_all(fetched, fetcher)
            elif self.flow_active:
                await self._read_replaced_logs()
            if self.flow_active:
                await self._pass_gaps(fetched or {})
            await asyncio.sleep(0)

    async def _pass_gaps(self, fetched: Mapping[TP, list[Any]]) -> None:
        """Where aiokafka went on without records, as past a transaction's marker, do so as well.

        Not before it has done so twice: it also goes past records that it drops.
        """
        for tp in self.assignment() - fetched.keys():
            read = self._passed.get(tp, self._read_offset[tp])
            position = self._position(tp)
            if read is None and position is not None and self._end(tp) is not None:
                read = await self._learn_start(tp)
            if read is None or position is None or position <= read:
                continue
            if not self._policy.is_gap(tp, read):
                await self._seek_and_note(tp, read)
                continue
            if tp not in self._marks:
                self._marks[tp] = Watermark(read, self.app.consumer_generation_id)
            self._passed[tp] = position

    async def _learn_start(self, tp: TP) -> int | None:
        """Note where a partition begins of which nothing was delivered yet; None if it is lost."""
        generation = self.app.consumer_generation_id
        offset = (await self.resume_offsets([tp]))[tp]
        if not self.flow_active or self.app.consumer_generation_id != generation:
            return None
        self._read_offset[tp] = offset
        return offset

    async def _enter(self, log: str) -> bool:
        """Take over the log's id; True if it is another log than before."""
        former, self._log = self._log, log
        if not former or is_same_log(former, log):
            return False
        logger.warning("%s was recreated; reading it from its beginning", self._topic)
        self._forget_all()
        return True

    def _forget_all(self) -> None:
        self._policy.clear()
        self._dropped.clear()
        for tp in [*self._marks]:
            self._forget_log(tp)
        self._progress += 1

    async def _read_new_log(self) -> None:
        """Read the topic from its beginning if it was recreated since the last look."""
        known = self._logs.known(self._topic)
        if known == self._log or not (self._log and self.flow_active):
            return
        if await self._enter(known):
            await self._thread.refresh_metadata()
            await self._seek_to_start(self.assignment())

    async def _seek_to_start(self, tps: Collection[TP]) -> None:
        if tps:
            for tp, offset in (await self._thread.earliest_offsets(*tps)).items():
                await self._seek_and_note(tp, offset)

    async def _read_replaced_logs(self) -> None:
        consumer = self._thread._ensure_consumer()
        for tp in self.assignment():
            read, answered_ms = self._read_offset[tp], consumer.last_poll_timestamp(tp)
            if read is None or answered_ms is None:
                continue
            end = await checked_end(consumer, tp, read)
            if self._policy.is_replaced(tp, read, end, answered_ms / 1000):
                await self._start_over(tp)

    async def _start_over(self, tp: TP) -> None:
        """Read a partition from its beginning: its log is shorter, under the same id."""
        self._forget_log(tp)
        await self._seek_to_start([tp])

    def _forget_log(self, tp: TP) -> None:
        """Offsets of the old log mean nothing in the new one."""
        self._marks.pop(tp, None)
        self._passed.pop(tp, None)
        self._ages.forget(tp)
        self._committed_offset[tp] = None
        if self._attempts is not None:
            self._attempts.forget(tp)
        if tp in self._paused_partitions:
            self.resume_partitions({ensure_TP(tp)})

    async def _seek_dropped(self) -> None:
        if not (self._dropped and self.flow_active):
            return
        for tp in self._dropped & self.assignment():
            await self._seek_and_note(tp, await self._expected(tp))
        self._dropped.clear()

    async def _seek_and_note(self, tp: TP, offset: int) -> None:
        delivered = self._read_offset[tp]
        await self.seek(tp, offset)  # Faust takes the offset for the end of the delivered records
        self._read_offset[tp] = delivered if tp in self._passed else offset

    async def _expected(self, tp: TP) -> int:
        offset = self._passed.get(tp, self._read_offset[tp])
        return int(offset) if offset is not None else (await self.resume_offsets([tp]))[tp]

    async def _deliver_all(self, fetched: Mapping[TP, list[Any]], fetcher: Any) -> None:
        generation = self.app.consumer_generation_id
        log = self.log_name

        def current() -> bool:
            return (
                self.flow_active
                and self.log_name == log
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
            await self._start_over(tp)
            return True
        if self._attempts is not None:
            reading = self._attempts.limit(tp, reading)
        if reading.records:
            unread_until = await self._deleted_until(tp, reading)
            for channel in channels:
                while channel.queue.qsize() >= MAX_QUEUED_CHUNKS and current():  # noqa: ASYNC110
                    await asyncio.sleep(ROOM_POLL_SECONDS)  # Faust's queue has no wait for room
            if not current():
                return False
            self._put(tp, reading, generation, unread_until)
        if reading.seek is not None:
            await self._seek_and_note(tp, reading.seek)
        return True

    def _first(self, tp: TP, reading: Reading) -> int:
        """The chunk's first offset; those without records before a reading belong to its chunk."""
        return int(self._read_offset[tp]) if tp in self._passed else reading.first

    async def _deleted_until(self, tp: TP, reading: Reading) -> int:
        """Up to where the log deleted records that were not read, by its retention; 0 if none."""
        first, found = self._first(tp, reading), first_offset(reading.records[0])
        if found <= first:
            return 0
        until = min(found, int((await self._thread.earliest_offsets(tp))[tp]))
        if until <= first:  # another gap, such as a transaction's marker
            return 0
        logger.error(
            "%s[%d]: the broker deleted the offsets %d to %d before they were read",
            tp.topic, tp.partition, first, until - 1,
        )  # fmt: skip
        return until

    async def _begin(self, tp: TP, offset: int, generation: int) -> None:
        """Before the first records of a partition: count an attempt at this offset."""
        if self.transport.attempt_settings is None:
            return
        if self._attempts is None:
            settings = self.transport.attempt_settings
            self._attempts = Attempts(settings, self._thread, lambda: self._log)
        await self._attempts.begin(tp, generation, offset, self.highwater(tp))

    def _put(self, tp: TP, reading: Reading, generation: int, unread_until: int) -> None:
        first, records = self._first(tp, reading), reading.records
        self._passed.pop(tp, None)
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
        self._ages.deliver(message, records, self.highwater(tp))
        chunk = Chunk(
            tp.topic, tp.partition, first, records, self.log_name, message.alone, unread_until
        )
        event = self.app.create_event(None, chunk, None, message)
        for channel in channels:
            channel.queue.force_put_nowait(event)
        self._read_offset[tp] = message.last + 1

    @override
    def _new_consumer_thread(self) -> Any:
        """Use `ConsumerThread`, which runs in the application's loop."""
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)
