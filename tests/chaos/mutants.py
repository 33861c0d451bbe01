"""Workers and sinks with a defect, to check that the chaos run finds it.

Each defect is a way in which real pipelines lose, duplicate or mix up answers.
"""

import asyncio
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from infra import config
from infra.topics import RESULTS
from streams import application, sink, worker
from streams.processing.processor import Processed
from streams.projection.blocks import Contents
from streams.projection.store import Applied, Store
from streams.sink import Projection
from streams.transport import consumer
from streams.transport.acks import Watermark
from streams.worker import Inference

LATE_SECONDS = 1.5  # longer than the interval of commits
# A table WITHOUT ROWID needs a primary key.
KEYED_TABLE = re.compile(
    r"task_id TEXT(?: NOT NULL)? PRIMARY KEY(.*?)(?:, WITHOUT ROWID)?;", re.DOTALL
)
REFERENCE = re.compile(r" REFERENCES \w+\(task_id\)")  # to a column that is no longer a key
UNLESS_THERE = re.compile(r"ON CONFLICT\s*\(task_id\) DO NOTHING")
EVERY = 5  # every fifth chunk or transaction is affected


class Mutant(NamedTuple):
    """A defect: the anomaly that it causes, the faults that reveal it, and what to run with it."""

    anomaly: str
    faults: list[str]
    apps: dict[str, str]
    settings: Mapping[str, str] = MappingProxyType({})
    kafka: bool = False  # whether it shows on Apache Kafka only


def _worker(name: str, *faults: str, anomaly: str = "lost-result", **settings: str) -> Mutant:
    return Mutant(anomaly, [*faults], {"worker": f"tests.chaos.mutants:{name}"}, settings)


def _sink(name: str, anomaly: str, *faults: str) -> Mutant:
    return Mutant(anomaly, [*faults], {"sink": f"tests.chaos.mutants:{name}"})


def _delivery(name: str, fault: str, anomaly: str = "lost-result") -> Mutant:
    return Mutant(anomaly, [fault], {"worker": f"tests.chaos.delivery.mutants:{name}"})


def _log(kind: str, name: str, anomaly: str, fault: str, kafka: bool = False) -> Mutant:
    return Mutant(anomaly, [fault], {kind: f"tests.chaos.defects.offsets:{name}"}, kafka=kafka)


def _api(name: str, anomaly: str, fault: str) -> Mutant:
    return Mutant(anomaly, [fault], {"api": f"tests.chaos.defects.service:{name}"})


MUTANTS = {
    "drop-on-error": _worker("drop_on_error", "kill-worker"),
    "ack-first": _worker("ack_first", "kill-worker", "kill-workers"),
    "last-offset": _worker("last_offset", "kill-worker", "kill-workers"),
    "delivery-not-awaited": _worker(
        "delivery_not_awaited", "silence-broker", "cut-connections", PETAL_DELIVERY_TIMEOUT="1"
    ),
    "no-primary-key": _sink("no_primary_key", "duplicate-row", "kill-worker"),
    "offset-before-rows": _sink("offset_before_rows", "lost-row", "kill-sink"),
    "reversed-pair": _worker("reversed_pair", "kill-worker", anomaly="crossed-answer"),
    "full-batch-drop": _delivery("full_batch_drop", "backlog"),
    "shifted-headers": _delivery("shifted_headers", "backlog", "crossed-trace"),
    "last-batch-unsent": _delivery("last_batch_unsent", "backlog"),
    "letters-forgotten": _delivery("letters_forgotten", "backlog"),
    "first-delivery-acked": _delivery("first_delivery_acked", "refuse-batch"),
    "failure-acked": _delivery("failure_acked", "refuse-batch"),
    "first-partition-only": _delivery("first_partition_only", "backlog"),
    "full-chunk-cut": _delivery("full_chunk_cut", "backlog"),
    "delivered-committed": _log("worker", "delivered_committed", "lost-result", "kill-workers"),
    "from-the-end": _log("worker", "from_the_end", "lost-result", "kill-workers"),
    "answers-by-id": _log("worker", "answers_by_id", "crossed-answer", "kill-worker"),
    "wrong-partition": _log("worker", "wrong_partition", "order", "kill-worker"),
    "rows-before-offsets": _log("sink", "rows_before_offsets", "db-corrupt", "kill-sink"),
    "last-answer-wins": _log(
        "sink", "last_answer_wins", "overwritten-row", "reset-group", kafka=True
    ),
    "gaps-unreported": _log(
        "sink", "gaps_unreported", "unreported-deletion", "expire-results", kafka=True
    ),
    "early-accept": _api("early_accept", "lost-task", "kill-api"),
    "conflict-unchecked": _api("conflict_unchecked", "missed-conflict", "kill-worker"),
    "crossed-waiters": _api("crossed_waiters", "foreign-response", "kill-workers"),
    "retried-as-new": _api("retried_as_new", "phantom", "silence-broker"),
}


class DropOnError(Inference):
    """Acknowledges a chunk that failed, like an agent that acknowledges every event."""

    _chunks = 0

    async def handle(self, event: Any, producer: Any) -> None:
        self._chunks += 1
        if self._chunks % EVERY == 0:
            event.ack()
        else:
            await super().handle(event, producer)


class AckFirst(Inference):
    """Acknowledges a chunk before its answers are published; a kill in between loses them."""

    async def handle(self, event: Any, producer: Any) -> None:
        event.ack()
        _go_on(self, self._late(event, producer))

    async def _late(self, event: Any, producer: Any) -> None:
        await asyncio.sleep(LATE_SECONDS)
        await super().handle(event, producer)


class Concurrent(Inference):
    """Handles chunks concurrently, every second one slowly."""

    _chunks = 0

    async def handle(self, event: Any, producer: Any) -> None:
        self._chunks += 1
        _go_on(self, self._late(event, producer, 2 * LATE_SECONDS * (self._chunks % 2)))

    async def _late(self, event: Any, producer: Any, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await super().handle(event, producer)


class LastOffset(Watermark):
    """Commits the highest acknowledged offset, even if a lower one is still open."""

    __slots__ = ()

    def ack(self, first: int, last: int) -> None:
        self.next = max(self.next, last + 1)


class NotAwaited(Inference):
    """Acknowledges a chunk once the producer, not yet the broker, has its answers."""

    async def handle(self, event: Any, producer: Any) -> None:
        await asyncio.sleep(LATE_SECONDS / 3)
        await super().handle(event, producer)

    async def _finish(self, event: Any, deliveries: Any, spans: Any, used: Any) -> None:
        event.ack()
        self._slots.release()
        await asyncio.gather(*deliveries, return_exceptions=True)


class ReversedPair(Inference):
    """Swaps the answers of two neighbours."""

    async def _process(self, chunk: Any, router: Any) -> Processed:
        processed = await super()._process(chunk, router)
        if len(processed.results) < 2:
            return processed
        (key, value), (next_key, next_value), *rest = processed.results
        one, two = msgspec.json.decode(value), msgspec.json.decode(next_value)
        if "y" in one and "y" in two:
            one["y"], two["y"] = two["y"], one["y"]
        swapped = [(key, msgspec.json.encode(one)), (next_key, msgspec.json.encode(two))]
        return processed._replace(results=[*swapped, *rest])


def _go_on(inference: Inference, handling: Any) -> None:
    async def handle() -> None:
        try:
            await handling
        except Exception as e:  # as in the worker: restart, do not lose it silently
            application.fail("answering tasks", e)

    task = asyncio.create_task(handle())
    inference._finishing.add(task)
    task.add_done_callback(inference._finishing.discard)


class OffsetBeforeRows(Store):
    """Sometimes commits offsets without their rows."""

    _transactions = 0

    def apply_all(self, parts: Sequence[Contents]) -> Applied:
        self._transactions += 1
        if self._transactions % EVERY == 0:
            parts = [part.since(part.end - 1)._replace(first=part.first) for part in parts]
        return super().apply_all(parts)


class Keyless(sqlite3.Connection):
    """Creates the table of task ids without its primary key, and inserts every row."""

    def executescript(self, script: str) -> sqlite3.Cursor:
        keyless, tables = KEYED_TABLE.subn(r"task_id TEXT\1;", script)
        assert tables == 1, "the schema no longer has this table"
        return super().executescript(REFERENCE.sub("", keyless))

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        return super().execute(UNLESS_THERE.sub("", sql), *args)

    def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
        return super().executemany(UNLESS_THERE.sub("", sql), *args)


def _worker_of(inference: type[Inference]) -> Any:
    worker.Inference = inference  # type: ignore[misc]
    return worker.create_app(config.load_or_exit())


def _last_offset() -> Any:
    consumer.Watermark = LastOffset  # type: ignore[attr-defined]
    return _worker_of(Concurrent)


def _offset_before_rows() -> Any:
    class Forgetful(Projection):
        async def open(self, cluster: str) -> None:
            await super().open(cluster)
            self._store.close()
            log = self._logs.known(RESULTS)
            self._store = OffsetBeforeRows(self._settings.database, log)

    sink.Projection = Forgetful  # type: ignore[misc]
    return sink.create_app(config.load_or_exit())


def _no_primary_key() -> Any:
    connect: Callable[..., Any] = sqlite3.connect
    sqlite3.connect = lambda *a, **k: connect(*a, **{**k, "factory": Keyless})
    return sink.create_app(config.load_or_exit())


APPS: dict[str, Callable[[], Any]] = {
    "drop_on_error": lambda: _worker_of(DropOnError),
    "ack_first": lambda: _worker_of(AckFirst),
    "last_offset": _last_offset,
    "delivery_not_awaited": lambda: _worker_of(NotAwaited),
    "reversed_pair": lambda: _worker_of(ReversedPair),
    "offset_before_rows": _offset_before_rows,
    "no_primary_key": _no_primary_key,
}


def __getattr__(name: str) -> Any:
    """The application of a mutant, built for `faust -A tests.chaos.mutants:NAME`."""
    if name not in APPS:
        raise AttributeError(name)
    return APPS[name]()
