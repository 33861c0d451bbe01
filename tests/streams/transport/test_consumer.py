"""The watermark, and one contract test per internal of Faust that the transport overrides."""

import asyncio
import gc
import inspect
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import OffsetAndMetadata
from faust.tables import recovery
from faust.transport import consumer as stock
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from intervaltree import IntervalTree
from prometheus_client import Metric

from infra.broker.log_id import LogIds
from infra.config import Settings
from infra.process.gc import collect_regularly
from infra.process.status import State
from streams import application
from streams.monitoring.monitor import Collector
from streams.transport.acks import ChunkMessage, Watermark
from streams.transport.attempts import Attempts, AttemptSettings, FileCounter
from streams.transport.consumer import Consumer
from streams.transport.driver import ProjectingConsumer
from streams.transport.producer import Producer
from streams.transport.thread import ConsumerThread


def test_the_watermark_moves_over_contiguous_ranges_only() -> None:
    mark = Watermark(40, generation=1)
    moved = []
    for first, last in [(50, 59), (45, 49), (60, 60), (40, 44), (70, 79), (61, 69)]:
        mark.ack(first, last)
        moved.append(mark.next)
    assert moved == [40, 40, 40, 61, 61, 80]
    assert mark.done == {}


def stock_new_offset(committed: int | None, acked: list[int]) -> Any:
    tp = TP("tasks", 0)
    fake = SimpleNamespace(
        _acked={tp: acked}, _gap=defaultdict(IntervalTree), _committed_offset={tp: committed},
        _acked_index=defaultdict(set),
    )  # fmt: skip
    return stock.Consumer._new_offset(fake, tp)


@pytest.mark.parametrize(
    ("committed", "acked", "commits"), [(37, [38, 39], 40), (0, [7], 8), (None, [5, 6], 7)]
)
def test_stock_faust_still_commits_past_what_is_not_acknowledged(
    committed: int | None, acked: list[int], commits: int
) -> None:
    """If this fails, Faust was fixed and `_new_offset` may need no override."""
    assert stock_new_offset(committed, acked) == commits


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (stock.Consumer, "_drain_messages", ["self", "fetcher"]),
        (stock.Consumer, "_new_offset", ["self", "tp"]),
        (stock.Consumer, "_filter_tps_with_pending_acks", ["self", "topics"]),
        (stock.Consumer, "_should_commit", ["self", "tp", "offset"]),
        (stock.Consumer, "on_partitions_revoked", ["self", "revoked"]),
        (stock.Consumer, "_wait_next_records", ["self", "timeout"]),
        (stock.Consumer, "commit", ["self", "topics", "start_new_transaction"]),
        (stock.Consumer, "commit_and_end_transactions", ["self"]),
        (stock.Consumer, "maybe_wait_for_commit_to_finish", ["self"]),
        (stock.Consumer, "wait_empty", ["self"]),
        (recovery.Recovery, "_wait", ["self", "coro", "timeout"]),
        (stock.Consumer, "verify_event_path", ["self", "now", "tp"]),
        (stock.ThreadDelegateConsumer, "seek_to_committed", ["self"]),
        (stock.ThreadDelegateConsumer, "_seek", ["self", "partition", "offset"]),
        (stock.ThreadDelegateConsumer, "_commit", ["self", "offsets"]),
        (GroupCoordinator, "ensure_coordinator_known", ["self"]),
        (GroupCoordinator, "fetch_committed_offsets", ["self", "partitions"]),
        (GroupCoordinator, "_do_commit_offsets", ["self", "assignment", "offsets"]),
        (driver.Consumer, "_new_consumer_thread", ["self"]),
        (driver.AIOKafkaConsumerThread, "_create_worker_consumer", ["self", "transport"]),
        (driver.Producer, "_settings_extra", ["self"]),
        (ConsumerMessage, "on_final_ack", ["self", "consumer"]),
        (faust.App, "on_first_start", ["self"]),
    ],
)
def test_each_overridden_or_called_method_is_still_there(
    owner: Any, name: str, parameters: list[str]
) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_faust_still_has_no_setting_for_the_longest_fetch() -> None:
    source = inspect.getsource(driver.AIOKafkaConsumerThread._create_worker_consumer)
    assert "fetch_max_wait_ms=1500" in source
    assert "_fetch_max_wait_ms" in AIOKafkaConsumer.__init__.__code__.co_names


def test_a_batch_still_has_a_builder_that_counts_relative_offsets() -> None:
    batch = BatchBuilder(10_000, 0, is_transactional=False)
    for n in range(3):
        assert batch._builder.append(n, 1, b"k", b"v", []) is not None
    batch._relative_offset = 3
    assert batch.record_count() == 3


class NoMetrics:
    def counts(self) -> dict[str, int]:
        return {}

    def collect(self) -> Iterator[Metric]:
        return iter(())


class Nothing:
    """The subject of an application that is never started."""

    state: State = "starting"
    reason: str | None = None
    model: str | None = None
    model_since: float = 0.0
    loading: str | None = None
    metrics: Collector = NoMetrics()

    def __init__(self) -> None:
        self.models: list[str] = []
        self.unavailable: list[str] = []

    def reload(self) -> None:
        return None

    async def open(self, _cluster: str) -> None:
        return None


Apps = Callable[..., application.Application]


@pytest.fixture
def make_app() -> Iterator[Apps]:
    """Applications that are never started; the event loops that Faust makes are closed."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    apps: list[application.Application] = []

    def make(projection: Any = None, **values: Any) -> application.Application:
        settings = Settings(**values)
        logs = LogIds(settings)
        made = application.Application("group", settings, Nothing(), logs, projection)
        apps.append(made)
        return made

    yield make
    for app in apps:
        if app._consumer is not None:
            app._consumer._thread.thread_loop.close()
    loop.close()
    asyncio.set_event_loop(None)


def test_the_app_uses_our_consumer_and_producer(make_app: Apps) -> None:
    app = make_app()
    assert isinstance(app.consumer, Consumer)
    assert isinstance(app.producer, Producer)
    assert isinstance(app.consumer._thread, ConsumerThread)


def test_a_projecting_app_resumes_from_its_own_offsets(make_app: Apps) -> None:
    app = make_app(SimpleNamespace(next_offsets=lambda: {0: 7}))
    assert isinstance(app.consumer, ProjectingConsumer)
    tp = TP("results", 0)
    resuming = app.consumer.resume_offsets([tp])
    assert asyncio.get_event_loop().run_until_complete(resuming) == {tp: 7}


@pytest.mark.parametrize(("broker", "idempotent"), [("", False), ("kafka.example:9092", True)])
def test_the_producer_is_idempotent_if_the_broker_allows_it(
    make_app: Apps, broker: str, idempotent: bool
) -> None:
    extra = make_app(broker=broker).producer._settings_extra()
    assert extra == {"acks": "all", "enable_idempotence": idempotent}


def test_fausts_own_environment_variables_change_nothing(
    make_app: Apps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_URL", "kafka://elsewhere:1")
    monkeypatch.setenv("BROKER_COMMIT_INTERVAL", "99")
    conf = make_app(commit_interval=0.25).conf
    assert (str(conf.broker[0]), conf.broker_commit_interval) == ("kafka://127.0.0.1:9092", 0.25)


def test_fausts_web_server_stays_off_even_when_the_worker_command_turns_it_on(
    make_app: Apps,
) -> None:
    app = make_app()
    app.conf.web_enabled = True  # as `faust worker` does
    assert list(app.boot_strategy.web_server()) == []


def test_an_ack_of_an_older_generation_moves_nothing(make_app: Apps) -> None:
    consumer = make_app().consumer
    tp = TP("tasks", 0)
    consumer._marks[tp] = now = Watermark(10, generation=2)
    for mark, moved in [(Watermark(10, generation=1), 10), (now, 15)]:
        message = ChunkMessage(
            "tasks", 0, 10, 0.0, 0, [], None, None, None, 0, 0, tp, generation_id=mark.generation
        )
        message.first, message.last, message.mark = 10, 14, mark
        assert consumer.ack_chunk(message) is True
        assert consumer.ack_chunk(message) is False, "acknowledged twice"
        assert now.next == moved
    assert consumer._new_offset(tp) == 15


def test_a_chunk_without_an_ack_is_pending_during_a_rebalance_too(make_app: Apps) -> None:
    """The rebalance waits for it, so nothing else would end a chunk that never returns."""
    consumer = make_app().consumer
    tp = TP("tasks", 0)
    consumer.app.rebalancing = True
    before = consumer.pending()
    message = ChunkMessage("tasks", 0, 10, 0.0, 0, [], None, None, None, 0, 0, tp)
    message.first, message.last, message.mark = 10, 14, Watermark(10, generation=1)
    consumer.track_message(message)
    meanwhile = consumer.pending()
    consumer.ack_chunk(message)
    assert [before, meanwhile, consumer.pending()] == [False, True, False]


def test_a_stop_amid_a_rebalance_commits_the_chunk_in_hand_before_it_is_given_up(
    make_app: Apps,
) -> None:
    consumer, tp = make_app().consumer, TP("tasks", 0)
    consumer._marks[tp] = mark = Watermark(10, generation=1)
    chunks = []
    for first in (10, 15):
        chunk = ChunkMessage("tasks", 0, first, 0.0, 0, [], None, None, None, 0, 0, tp)
        chunk.first, chunk.last, chunk.mark = first, first + 4, mark
        consumer.track_message(chunk)
        chunks.append(chunk)
    committed = []

    async def commit(_log: str, offsets: dict[TP, OffsetAndMetadata]) -> bool:
        committed.append({tp: offset.offset for tp, offset in offsets.items()})
        consumer.app._stopped.set()  # the signal comes while the partitions are given up
        return True

    async def give_up() -> None:
        consumer._try_commit, consumer._thread.assignment = commit, lambda: {tp}
        consumer.ack_chunk(chunks[0])
        giving_up = consumer.loop.create_task(consumer.on_partitions_revoked({tp}))
        consumer.loop.call_later(0.1, consumer.ack_chunk, chunks[1])
        await giving_up

    consumer.loop.run_until_complete(give_up())
    assert committed == [{tp: 15}, {tp: 20}]


def test_a_commit_under_way_does_not_stand_in_for_a_later_one(make_app: Apps) -> None:
    consumer, tp = make_app().consumer, TP("tasks", 0)
    consumer._marks[tp] = mark = Watermark(10, generation=1)
    mark.ack(10, 14)
    committed = []

    async def commit(_log: str, offsets: dict[TP, OffsetAndMetadata]) -> bool:
        committed.append(offsets[tp].offset)
        mark.ack(mark.next, mark.next + 4)  # meanwhile the next chunk is handled
        await asyncio.sleep(0.01)
        return True

    async def run() -> None:
        consumer._try_commit, consumer._thread.assignment = commit, lambda: {tp}
        timer = consumer.loop.create_task(consumer.commit())
        await asyncio.sleep(0)
        await consumer.commit_and_end_transactions()
        await timer

    consumer.loop.run_until_complete(run())
    assert committed == [15, 20]


@pytest.mark.parametrize(("in_hand", "ends"), [(False, 0), (True, 1)])
def test_an_attempt_counts_unless_its_partition_is_given_up_with_no_chunk_in_hand(
    make_app: Apps, tmp_path: Path, in_hand: bool, ends: int
) -> None:
    consumer = make_app().consumer
    tp = TP("tasks", 0)
    settings = AttemptSettings(folder=tmp_path, group="petal-worker", embedded=True, window=9)
    consumer._attempts = Attempts(settings, consumer._thread, lambda: "a-log")
    consumer._marks[tp] = Watermark(10, generation=1)
    message = ChunkMessage("tasks", 0, 10, 0.0, 0, [], None, None, None, 0, 0, tp)
    if in_hand:
        consumer.track_message(message)

    async def give_up() -> int:
        await consumer._attempts.begin(tp, 1, 10, 20)
        await consumer._reset_attempts(tp)
        return await FileCounter(tmp_path, "petal-worker", lambda: "a-log").read(tp, 10)

    assert consumer.loop.run_until_complete(give_up()) == ends


class Knot:
    """Holds itself, like the objects that keep a fetch response."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize("idle", [False, True])
def test_cycles_are_collected_although_the_collector_is_relaxed(idle: bool) -> None:
    async def collected() -> None:
        gone = weakref.ref(Knot())
        progress = (lambda: 0) if idle else count().__next__
        collecting = asyncio.create_task(collect_regularly(progress, 1.5 if idle else 3600))
        async with asyncio.timeout(10):
            while gone() is not None:
                await asyncio.sleep(0.05)
        collecting.cancel()

    gc.disable()
    try:
        asyncio.run(collected())
    finally:
        gc.enable()
