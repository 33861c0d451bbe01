"""Where the live figures come from: broker, status files, projection and this service's counters.

A look costs the same whatever the load: it asks for offsets and a few of the latest results.
"""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from typing import NamedTuple, TypeVar

from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError
from msgspec import DecodeError

from api.live.snapshot import BrokerState, BrokerView
from api.metrics import Metrics
from infra.broker import access
from infra.broker.access import Right
from infra.broker.admin import pipeline_topics
from infra.broker.observer import Member, Observer
from infra.config import Settings
from infra.errors import AccessRefused, BrokerUnavailable, TopicMismatch
from infra.process import status
from infra.process.status import Status
from infra.topics import Topic
from streams.errors import StoreError
from streams.events import Result
from streams.projection.reader import Reader

ASK_SECONDS = 0.5
OPEN_SECONDS = 4.0
ANSWER_SECONDS = 5.0  # a broker that is silent for longer is away
RETRY_SECONDS = 1.0
REFUSED_RETRY_SECONDS = 10.0
GROUP_SECONDS = 1.0  # from one description of the workers' group to the next
SAMPLE_SECONDS = 1.0
SAMPLE_BLOCKS = 64  # of results, in all
LOST = (KafkaError, OSError, TimeoutError, BrokerUnavailable)

Ends = Mapping[str, Mapping[int, int]]
T = TypeVar("T")
D = TypeVar("D")


class Offsets(NamedTuple):
    """What the broker says; `members` is None if it does not say who is in the workers' group.

    `behind`: of each partition of `tasks`, what the group has committed and the end at that time;
    empty if that is not known.
    """

    at: float
    ends: Ends
    behind: Mapping[int, tuple[int, int]]
    members: Sequence[Member] | None
    notes: Sequence[str] = ()


class Look(NamedTuple):
    """All that is known at one moment; `offsets` is None without a broker.

    `sample`: of the latest results, the time in ms at which each block was written.
    """

    at: float
    broker: BrokerView
    offsets: Offsets | None
    statuses: Sequence[Status]
    sample: Sequence[tuple[int, Sequence[Result]]]
    requests: int
    request_buckets: Sequence[int]


class Sources:
    """Use `look` from one task; `close` when nobody watches.

    The broker is asked beside it, so that one which is slow or away delays nothing else.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._broker = BrokerSource(settings)
        self._sample: Sequence[tuple[int, Sequence[Result]]] = ()
        self._sampled_at = -SAMPLE_SECONDS

    async def look(self) -> Look:
        """Everything as it is now; never raises for what is away."""
        self._broker.begin()
        statuses = await asyncio.to_thread(self._statuses)
        if time.monotonic() - self._sampled_at >= SAMPLE_SECONDS:
            self._sampled_at = time.monotonic()
            self._sample = await asyncio.to_thread(self._read_sample)
        requests, buckets = self._metrics.inferences()
        return Look(
            time.time(),
            self._broker.view,
            self._broker.offsets,
            statuses,
            self._sample,
            requests,
            buckets,
        )

    async def close(self) -> None:
        """Disconnect; a later `look` connects again."""
        await self._broker.close()

    def _statuses(self) -> Sequence[Status]:
        names = self._settings.names
        groups = (names.worker_group, names.sink_group)
        try:
            return [s for s in status.read(self._settings) if s.group in groups]
        except OSError:  # a folder that this account may not read
            return ()

    def _read_sample(self) -> Sequence[tuple[int, Sequence[Result]]]:
        blocks = max(1, SAMPLE_BLOCKS // self._settings.partitions)
        try:
            with Reader(self._settings.database) as reader:
                return reader.newest_answers(blocks)
        except (StoreError, sqlite3.Error, DecodeError):  # none yet, or it is being replaced
            return ()


class BrokerSource:
    """The broker's part, over connections that are opened again after they were lost.

    `offsets`: the last answer, None while the broker is away.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = pipeline_topics(settings)
        self._asking: asyncio.Task[None] | None = None
        self._members: Sequence[Member] | None = None
        self._behind: Mapping[int, tuple[int, int]] = {}
        self._group_at = 0.0
        self._notes: dict[str, str] = {}
        self.view = BrokerView("connecting", settings.bootstrap)
        self.offsets: Offsets | None = None

    def begin(self) -> None:
        """Ask from now on, if it is not done yet."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), context=Context())

    async def close(self) -> None:
        """Stop asking, and disconnect."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking

    async def _ask(self) -> None:
        while True:
            retry = RETRY_SECONDS
            try:
                await self._ask_until_lost()
            except (AccessRefused, TopicMismatch) as e:
                self._lose("refused", str(e))
                retry = REFUSED_RETRY_SECONDS
            except BrokerUnavailable as e:
                self._lose("away", str(e))
            except LOST as e:
                self._lose("away", f"the broker does not answer ({type(e).__name__})")
            await asyncio.sleep(retry)

    async def _ask_until_lost(self) -> None:
        observer = Observer(self._settings)
        try:
            await observer.open(OPEN_SECONDS)
            self._notes.clear()
            self._group_at = 0.0
            while True:
                async with asyncio.timeout(ANSWER_SECONDS):
                    self.offsets = await self._read(observer)
                self.view = BrokerView("here", self._settings.bootstrap)
                await asyncio.sleep(ASK_SECONDS)
        finally:
            await observer.close()

    def _lose(self, state: BrokerState, reason: str) -> None:
        since = self.view.since if self.view.state == state else time.time()
        self.view = BrokerView(state, self._settings.bootstrap, reason, since)
        self.offsets, self._members, self._behind = None, None, {}

    async def _read(self, observer: Observer) -> Offsets:
        tasks, results, dead_letters = self._topics
        ends = await observer.ends([tasks, results])
        right = Right("Describe", "topic", "dead_letters")
        ends |= await self._allowed(observer.ends([dead_letters]), {}, right)
        at = time.time()
        if time.monotonic() - self._group_at >= GROUP_SECONDS:
            self._group_at = time.monotonic()
            await self._read_group(observer, tasks, ends[tasks.name])
        return Offsets(at, ends, self._behind, self._members, list(self._notes.values()))

    async def _read_group(self, observer: Observer, tasks: Topic, ends: Mapping[int, int]) -> None:
        group = self._settings.names.worker_group
        right = Right("Describe", "group", "worker_group")
        self._members = await self._allowed(observer.members(group, tasks.name), None, right)
        committed = await self._allowed(observer.committed(group, tasks), None, right)
        if committed is not None:  # without an offset a group begins at the log's beginning
            self._behind = {p: (committed.get(p, 0), end) for p, end in ends.items()}

    async def _allowed(self, asked: Awaitable[T], default: D, right: Right) -> T | D:
        """What the broker answers, or the default and a note if it does not allow the question."""
        try:
            return await asked
        except (GroupAuthorizationFailedError, TopicAuthorizationFailedError):
            called = access.called(self._settings, right)
            self._notes[called.name] = access.sentence(self._settings, [called])
            return default
