"""A task's trace goes on to its result; if its sender keeps it, with a span of the work here.

Names of attributes: OpenTelemetry's semantic conventions for messaging.
"""

from collections.abc import Iterable, Sequence

from opentelemetry.trace import Span, SpanKind, StatusCode

from infra.topics import TRACE_HEADER, Names
from infra.tracing import Tracing, is_sampled, traceparent
from streams.codec import decode_result
from streams.events import Failure
from streams.processing.decoder import DeadLetter
from streams.processing.processor import Processed
from streams.records import Chunk

Header = tuple[str, bytes]
ATTRIBUTES = {
    "messaging.system": "kafka",
    "messaging.operation.name": "process",
    "messaging.operation.type": "process",
}


def trace_headers(chunk: Chunk, dead_letters: Iterable[DeadLetter]) -> list[list[Header]]:
    """The trace header of each record that has a result; empty if no record has headers."""
    if not any(record.headers for record in chunk.records):
        return []
    dead = {letter.offset for letter in dead_letters}
    return [
        [(name, value) for name, value in record.headers if name == TRACE_HEADER and value]
        for record in chunk.records
        if record.offset not in dead
    ]


class ChunkSpans:
    """Starts the spans of the tasks of one chunk, at `begun` (ns since 1970)."""

    def __init__(self, tracing: Tracing, names: Names, partition: int, begun: int) -> None:
        self._tracing = tracing
        self._name = f"process {names.tasks}"
        self._attributes: dict[str, str | int] = {
            **ATTRIBUTES,
            "messaging.consumer.group.name": names.worker_group,
            "messaging.destination.name": names.tasks,
            "messaging.destination.partition.id": str(partition),
        }
        self._begun = begun

    def start(self, processed: Processed, traces: Sequence[list[Header]]) -> list[Span]:
        """A span of each task whose trace is kept; it replaces that of the task in `traces`."""
        spans = []
        results = zip(processed.results, processed.offsets, traces, strict=True)
        for (key, value), offset, trace in results:
            if trace and is_sampled(trace[0][1]):
                parent = trace[0][1]
                span = self._start(key.decode(), offset, parent)
                span.set_attribute("petal.model", decode_result(value).model)
                _set_outcome(span, processed.failures.get(offset))
                trace[:] = [(TRACE_HEADER, traceparent(span) or parent)]
                spans.append(span)
        return spans

    def _start(self, task_id: str, offset: int, parent: bytes) -> Span:
        attributes: dict[str, str | int] = {
            **self._attributes,
            "messaging.kafka.offset": offset,
            "messaging.message.id": task_id,
        }
        return self._tracing.start(self._name, SpanKind.CONSUMER, parent, attributes, self._begun)


def _set_outcome(span: Span, failure: Failure | None) -> None:
    if failure is not None:
        span.set_attribute("error.type", failure.code)
        span.set_status(StatusCode.ERROR, failure.message)
