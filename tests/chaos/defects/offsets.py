"""Workers and sinks that treat offsets, partitions or repeats in a wrong way.

See `tests.chaos.mutants`.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from faust.types import TP

from infra import config
from streams import sink, worker
from streams.processing.processor import Processed
from streams.projection.blocks import Contents
from streams.projection.database import transaction
from streams.projection.store import Applied, Duplicate, Store
from streams.transport import driver
from streams.transport.consumer import Consumer
from streams.worker import Inference

SLOW_SECONDS = 0.5  # in which offsets are committed
ROWS_SECONDS = 0.3  # between a transaction of rows and the one of their offsets
REPLACED = "UPDATE result_key SET position = ? WHERE task_id = ?"


class DeliveredCommitted(Consumer):
    """Commits what the agent was given, not what was answered."""

    def _next(self, tp: TP) -> int | None:
        following: int | None = self._read_offset[tp]
        return following


class Slow(Inference):
    """Answers slowly, so that offsets are committed meanwhile."""

    async def handle(self, event: Any, producer: Any) -> None:
        await asyncio.sleep(SLOW_SECONDS)
        await super().handle(event, producer)


class FromTheEnd(Consumer):
    """Begins at the end of the log, as with `auto.offset.reset=latest` and no offset."""

    async def resume_offsets(self, tps: Sequence[TP]) -> Mapping[TP, int]:
        ends = await self._thread._ensure_consumer().end_offsets(list(tps))
        return {TP(*tp): offset for tp, offset in ends.items()}


class AnswersById(Inference):
    """Keeps the answer to each id, and gives it to another task with the id."""

    _kept: dict[bytes, Any]

    async def _process(self, chunk: Any, router: Any) -> Processed:
        processed = await super()._process(chunk, router)
        self._kept = getattr(self, "_kept", {})
        return processed._replace(results=[self._of_id(*pair) for pair in processed.results])

    def _of_id(self, key: bytes, value: bytes) -> tuple[bytes, bytes]:
        result = msgspec.json.decode(value)
        if "y" in result:
            result["y"] = self._kept.setdefault(key, result["y"])
        return key, msgspec.json.encode(result)


class RowsBeforeOffsets(Store):
    """Commits rows, and their offsets in a later transaction."""

    _late: Sequence[Contents] = ()

    def apply_all(self, parts: Sequence[Contents]) -> Applied:
        applied = super().apply_all(parts)
        time.sleep(ROWS_SECONDS)
        with self._lock, transaction(self._db):
            super()._advance(self._late)
        return applied

    def _advance(self, parts: Sequence[Contents]) -> None:
        self._late = parts


class LastAnswerWins(Store):
    """Replaces a row by a later answer to the same task."""

    def _record(self, duplicates: Sequence[Duplicate]) -> int:
        for repeat in duplicates:
            self._db.execute(REPLACED, (repeat.position, repeat.task_id))
        return super()._record(duplicates)


class GapsUnreported(Store):
    """Passes over results that were deleted before they were read."""

    def apply_all(self, parts: Sequence[Contents]) -> Applied:
        return super().apply_all([part._replace(unread_until=0) for part in parts])


def _worker(inference: type[Inference] = Inference, consumer: type[Consumer] = Consumer) -> Any:
    worker.Inference = inference  # type: ignore[misc]
    driver.Consumer = consumer  # type: ignore[attr-defined]
    return worker.create_app(config.load_or_exit())


def _sink(store: type[Store]) -> Any:
    sink.Store = store  # type: ignore[attr-defined]
    return sink.create_app(config.load_or_exit())


def _wrong_partition() -> Any:
    """Writes the results of every second chunk to the next partition."""
    results_of, count, partitions = worker.results_of, 0, config.load_or_exit().partitions

    def moved(*args: Any) -> Any:
        nonlocal count
        count += 1
        found = results_of(*args)
        return found._replace(partition=(found.partition + count % 2) % partitions)

    worker.results_of = moved  # type: ignore[assignment]
    return _worker()


APPS: dict[str, Callable[[], Any]] = {
    "delivered_committed": lambda: _worker(Slow, DeliveredCommitted),
    "from_the_end": lambda: _worker(consumer=FromTheEnd),
    "answers_by_id": lambda: _worker(AnswersById),
    "wrong_partition": _wrong_partition,
    "rows_before_offsets": lambda: _sink(RowsBeforeOffsets),
    "last_answer_wins": lambda: _sink(LastAnswerWins),
    "gaps_unreported": lambda: _sink(GapsUnreported),
}


def __getattr__(name: str) -> Any:
    """The application of a mutant, built for `faust -A tests.chaos.defects.offsets:NAME`."""
    if name not in APPS:
        raise AttributeError(name)
    return APPS[name]()
