"""Trace context of a request or task, and with `PETAL_OTEL=on` OpenTelemetry spans.

Spans are sent by OTLP over HTTP. OpenTelemetry's SDK reads its own variables for the address, the
sampler and the name: `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME`
and others of opentelemetry.io/docs/languages/sdk-configuration. Attributes have the names of its
semantic conventions.
"""

import threading
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

from infra.config import variable
from infra.errors import ConfigError
from infra.topics import TRACE_HEADER

FLUSH_SECONDS = 1.0  # at the end, because the collector may be away
W3C = TraceContextTextMapPropagator()

# The `traceparent` of the request that runs in this context; its tasks get it too.
TRACEPARENT: ContextVar[bytes | None] = ContextVar("traceparent", default=None)


class Tracing:
    """Starts spans, and exports the ended ones in batches in the background.

    A collector that is slow or away blocks nothing: spans above the queue's limit are dropped.
    """

    def __init__(self, service: str) -> None:
        """`service` is the name of this process, unless a variable sets it. Raises ConfigError."""
        try:  # the extra `otel`
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as e:
            raise ConfigError(
                f"{variable('otel')}=on needs: pip install 'petalstream[otel]'"
            ) from e
        try:
            named = {SERVICE_NAME: service, **OTELResourceDetector().detect().attributes}
            provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        except ValueError as e:
            raise ConfigError(f"a variable of OpenTelemetry cannot be used: {e}") from e
        self._tracer = provider.get_tracer("petalstream")
        self._shutdown = provider.shutdown

    def start(
        self,
        name: str,
        kind: SpanKind,
        parent: bytes | None,
        attributes: Attributes = None,
        at: int | None = None,
    ) -> Span:
        """Start a span at `at` (ns since 1970) or now; `parent` is its parent's `traceparent`."""
        return self._tracer.start_span(name, _context(parent), kind, attributes, start_time=at)

    def close(self) -> None:
        """Export the remaining spans, within FLUSH_SECONDS."""
        # The SDK's own deadline is 30 s, which is longer than a supervisor waits.
        flushing = threading.Thread(target=self._shutdown, daemon=True)
        flushing.start()
        flushing.join(FLUSH_SECONDS)


def parse_traceparent(value: bytes | None) -> bytes | None:
    """A `traceparent` header as version 00 of W3C Trace Context, or None if it is not valid."""
    return None if value is None else _encode(_context(value))


def is_sampled(traceparent: bytes) -> bool:
    """Whether a `traceparent` is valid and its sender records the trace."""
    context = get_current_span(_context(traceparent)).get_span_context()
    return context.is_valid and context.trace_flags.sampled


def traceparent(span: Span) -> bytes | None:
    """The `traceparent` for the children of a span; None if OpenTelemetry is disabled."""
    return _encode(set_span_in_context(span, Context()))


def _context(traceparent: bytes | None) -> Context:
    carrier = {TRACE_HEADER: (traceparent or b"").decode("latin-1")}
    return W3C.extract(carrier, Context())


def _encode(context: Context) -> bytes | None:
    carrier: dict[str, str] = {}
    W3C.inject(carrier, context)
    return carrier[TRACE_HEADER].encode() if carrier else None
