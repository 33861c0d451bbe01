"""Workers with a defect that shows only in an unusual delivery.

The usual one is a chunk of one batch that the broker accepts, without an unreadable record.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

from faust.types import TP

from infra import config
from streams import application, worker
from streams.processing.processor import Processed
from streams.transport import driver
from streams.transport.consumer import Consumer
from streams.transport.producer import BATCH_BYTES, Producer
from streams.worker import Inference
from tests.chaos.delivery.situations import CHUNK_RECORDS

Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]  # key, value, headers
RECORD_BYTES = 200  # more than a record takes beside its value and headers of ours


class Cut(Producer):
    """Sends one batch at a time, so that a defect can change single batches."""

    async def send_all(
        self,
        topic: str,
        partition: int,
        messages: Iterable[tuple[bytes | None, bytes | None]],
        headers: Sequence[list[tuple[str, bytes]]] = (),
        time_ms: int | None = None,
    ) -> list[Awaitable[Any]]:
        records: list[Record] = [
            (key, value, head)
            for (key, value), head in zip(messages, headers or repeat([]))  # noqa: B905
        ]
        deliveries: list[Awaitable[Any]] = []
        for batch in self.spoil(list(_batches(records))):
            pairs, heads = [(key, value) for key, value, _ in batch], [head for *_, head in batch]
            deliveries += await super().send_all(topic, partition, pairs, heads, time_ms)
        return deliveries

    def spoil(self, batches: list[list[Record]]) -> list[list[Record]]:
        """The batches to send in place of the right ones."""
        return batches


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    room = BATCH_BYTES
    for record in records:
        size = len(record[1] or b"") + RECORD_BYTES
        if batch and size > room:
            yield batch
            batch, room = [], BATCH_BYTES
        batch.append(record)
        room -= size
    if batch:
        yield batch


class FullBatchDrop(Cut):
    """Drops the record that did not fit into a full batch."""

    def spoil(self, batches: list[list[Record]]) -> list[list[Record]]:
        return batches[:1] + [batch[1:] for batch in batches[1:]]


class ShiftedHeaders(Cut):
    """From the second batch on, gives each record the headers of the previous one."""

    def spoil(self, batches: list[list[Record]]) -> list[list[Record]]:
        heads = [head for batch in batches for *_, head in batch]
        first = len(batches[0]) if batches else 0
        shifted = iter(heads[:first] + heads[first - 1 : -1] if first else [])
        return [[(key, value, next(shifted)) for key, value, _ in batch] for batch in batches]


class LastBatchUnsent(Cut):
    """Does not send the last of several batches."""

    def spoil(self, batches: list[list[Record]]) -> list[list[Record]]:
        return batches[:1] + batches[1:-1]


class LettersForgotten(Inference):
    """Publishes no dead letters of a chunk that also has results."""

    async def _process(self, chunk: Any, router: Any) -> Processed:
        processed = await super()._process(chunk, router)
        return processed._replace(dead_letters=[]) if processed.results else processed


class FirstDeliveryAcked(Inference):
    """Acknowledges a chunk as soon as the first of its deliveries is done."""

    async def _finish(self, event: Any, deliveries: Any, spans: Any, used: Any) -> None:
        await super()._finish(event, deliveries[:1], spans, used)
        await asyncio.gather(*deliveries[1:], return_exceptions=True)


class FailureAcked(Inference):
    """Logs a failed delivery, and acknowledges its chunk."""

    async def _finish(self, event: Any, deliveries: Any, spans: Any, used: Any) -> None:
        done = await asyncio.gather(*deliveries, return_exceptions=True)
        for error in done:
            if isinstance(error, Exception):
                application.logger.error("publishing results failed: %r", error)
        await super()._finish(event, [], spans, used)


class FullChunkCut(Inference):
    """Leaves out the last record of a chunk of maximum length."""

    async def handle(self, event: Any, producer: Any) -> None:
        chunk = event.value
        event.value = chunk._replace(records=chunk.records[: CHUNK_RECORDS - 1])
        await super().handle(event, producer)


class FirstPartitionOnly(Consumer):
    """Delivers only the first partition of a fetch, and marks the others as handled."""

    async def _deliver_all(self, fetched: Mapping[TP, list[Any]], fetcher: Any) -> None:
        (first, *_) = fetched
        await super()._deliver_all({first: fetched[first]}, fetcher)
        for tp, records in fetched.items():
            mark = self._marks.get(tp)
            if tp != first and mark is not None and records[0].offset == mark.next:
                mark.ack(mark.next, records[-1].offset)
                self._read_offset[tp] = records[-1].offset + 1


INFERENCES: Mapping[str, type[Inference]] = {
    "letters_forgotten": LettersForgotten,
    "first_delivery_acked": FirstDeliveryAcked,
    "failure_acked": FailureAcked,
    "full_chunk_cut": FullChunkCut,
}
PRODUCERS: Mapping[str, type[Producer]] = {
    "full_batch_drop": FullBatchDrop,
    "shifted_headers": ShiftedHeaders,
    "last_batch_unsent": LastBatchUnsent,
}


def __getattr__(name: str) -> Any:
    """The worker with a defect, built for `faust -A tests.chaos.delivery.mutants:NAME`."""
    if name in PRODUCERS:
        driver.Transport.Producer = PRODUCERS[name]
    elif name in INFERENCES:
        worker.Inference = INFERENCES[name]  # type: ignore[misc]
    elif name == "first_partition_only":
        driver.Consumer = FirstPartitionOnly  # type: ignore[attr-defined]
    else:
        raise AttributeError(name)
    return worker.create_app(config.load_or_exit())
