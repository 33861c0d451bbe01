"""OpenTelemetry spans of this process, where `PETAL_OTEL=on` asks for them.

They are sent by OTLP over HTTP. Where to, and which of them, is said by OpenTelemetry's own
variables, which its SDK reads: `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`,
`OTEL_SERVICE_NAME` and others of opentelemetry.io/docs/languages/sdk-configuration. Names of
attributes: its semantic conventions.
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

FLUSH_SECONDS = 1.0  # at the end, for a collector that may be away
W3C = TraceContextTextMapPropagator()

# The `traceparent` of the request that is served in this context; its tasks carry it on.
TRACEPARENT: ContextVar[bytes | None] = ContextVar("traceparent", default=None)


class Tracing:
    """Starts spans and exports the ended ones in the background, in batches.

    A collector that is slow or away holds nothing up: spans that find no room are dropped.
    """

    def __init__(self, service: str) -> None:
        """`service`: the name of this process, if no variable names it. Raises ConfigError."""
        try:  # an extra of this package
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
        """A span below the `traceparent` of its parent, begun `at` (ns since 1970) or now."""
        return self._tracer.start_span(name, _context(parent), kind, attributes, start_time=at)

    def close(self) -> None:
        """Export what is left, within FLUSH_SECONDS."""
        # The SDK's own deadline is 30 s, which is longer than a supervisor waits.
        flushing = threading.Thread(target=self._shutdown, daemon=True)
        flushing.start()
        flushing.join(FLUSH_SECONDS)


def _context(traceparent: bytes | None) -> Context:
    carrier = {TRACE_HEADER: (traceparent or b"").decode("latin-1")}
    return W3C.extract(carrier, Context())


def is_sampled(traceparent: bytes) -> bool:
    """Whether a `traceparent` is one, and who sent it keeps its trace."""
    context = get_current_span(_context(traceparent)).get_span_context()
    return context.is_valid and context.trace_flags.sampled


def traceparent(span: Span) -> bytes | None:
    """The `traceparent` of what a span causes; None where OpenTelemetry is disabled."""
    carrier: dict[str, str] = {}
    W3C.inject(carrier, set_span_in_context(span, Context()))
    return carrier[TRACE_HEADER].encode() if carrier else None
