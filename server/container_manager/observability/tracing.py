"""Traces, with OpenTelemetry's SDK: a span for each call and, below it, one for each engine call that it leads to.

A span takes about 40 µs to make, so a successful read has one only if its caller's ``traceparent`` is sampled. The
SDK's batch processor encodes and sends spans in a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import grpc
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import NoOpTracer, Span, SpanKind, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import container_manager
from container_manager.observability.accounting import Method
from container_manager.observability.call import Metadata

MAX_QUEUE = 8192
_INTERVAL_MS = 1000
_WARNING_INTERVAL_SECONDS = 60.0
# The length that W3C Trace Context asks every program to pass on; the service passes on no more.
_MAX_TRACESTATE = 512
_CHANNEL_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 5000))
_CODES = {status.name: status.value[0] for status in grpc.StatusCode}
# Errors of the server, by OpenTelemetry's conventions for gRPC; all other codes are the caller's.
_SERVER_ERRORS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
# A missing container is a normal answer.
_GOOD_OUTCOMES = {"ok", "not_found"}

_propagator = TraceContextTextMapPropagator()
_EXPORTER_LOG = "opentelemetry.exporter.otlp.proto.grpc.exporter"
# Their warnings quote OTEL_EXPORTER_OTLP_HEADERS, which may hold a credential, and what callers send.
_QUOTING_LOGS = ("opentelemetry.util.re", "opentelemetry.trace.span")
_log = logging.getLogger(__name__)


class Tracing:
    """Makes and sends spans from :meth:`start` to :meth:`stop`. Usable from any thread."""

    def __init__(self, target: str) -> None:
        """``target``: a collector that takes OTLP over gRPC without TLS, as ``host:port``.

        Raises whatever exception OpenTelemetry raises for a variable that it cannot use.
        """
        for name in _QUOTING_LOGS:
            logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger(_EXPORTER_LOG).addFilter(_once_a_minute)
        known = Resource({SERVICE_NAME: "container-manager", SERVICE_VERSION: container_manager.__version__})
        resource = known.merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._tracer = self._provider.get_tracer("container_manager")
        if isinstance(self._tracer, NoOpTracer):
            raise ValueError("OTEL_SDK_DISABLED is true")  # noqa: TRY004 - not the type, but a variable is wrong
        self._exporter = _Exporter(target)
        self._lock = threading.Lock()
        self._queued = 0
        self._queue_full = 0

    @property
    def exported(self) -> int:
        """The number of spans that the collector has taken."""
        return self._exporter.exported

    @property
    def dropped(self) -> dict[str, int]:
        """The number of spans lost, by reason."""
        return {"queue_full": self._queue_full, "export_failed": self._exporter.failed}

    def start(self) -> None:
        """Start to send spans."""
        processor = BatchSpanProcessor(self._exporter, max_queue_size=MAX_QUEUE, schedule_delay_millis=_INTERVAL_MS)
        self._provider.add_span_processor(processor)

    async def stop(self, seconds: float) -> None:
        """Send the queued spans for at most ``seconds``, and drop the rest."""
        # The SDK's own time limit is half a minute and cannot be set; closing the exporter ends its wait.
        limit = asyncio.get_running_loop().call_later(seconds, self._exporter.shutdown)
        await asyncio.to_thread(self._provider.shutdown)
        limit.cancel()

    def start_call(self, method: Method, metadata: Metadata, started_ns: int) -> CallSpans:
        """The spans of a call that has just started."""
        return CallSpans(self, method, _parent(metadata), started_ns)

    def span(self, name: str, parent: Context | None, kind: SpanKind, started_ns: int) -> Span:
        """Start a span. It does not record if its parent is not sampled."""
        return self._tracer.start_span(name, parent, kind, start_time=started_ns)

    def end(self, span: Span, ended_ns: int) -> None:
        """End a span and queue it, or count it as dropped if the queue is full."""
        if not span.is_recording():
            return
        with self._lock:
            if self._queued - self._exporter.exported - self._exporter.failed >= MAX_QUEUE:
                self._queue_full += 1
                return
            self._queued += 1
        span.end(ended_ns)


class CallSpans:
    """The span of one call, and those of its engine calls. Usable from any thread.

    The span of a read whose caller sends no trace is made at the end, and only if the read has failed.
    """

    __slots__ = ("_engine_calls", "_method", "_span", "_started_ns", "_tracing")

    def __init__(self, tracing: Tracing, method: Method, parent: Context | None, started_ns: int) -> None:
        self._tracing = tracing
        self._method = method
        self._started_ns = started_ns
        self._engine_calls: list[tuple[str, str, int, int]] = []
        self._span = self._start(parent) if parent is not None or not method.read else None

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty unless the call has a span."""
        if self._span is None or not self._span.get_span_context().trace_flags.sampled:
            return ""
        return f"{self._span.get_span_context().trace_id:032x}"

    def engine_call(self, operation: str, outcome: str, started_ns: int, ended_ns: int) -> None:
        """Record an engine call made on behalf of the call."""
        if self._span is None:
            self._engine_calls.append((operation, outcome, started_ns, ended_ns))
            return
        name, parent = f"engine {operation}", set_span_in_context(self._span)
        span = self._tracing.span(name, parent, SpanKind.CLIENT, started_ns)
        span.set_attributes({"botmaker.engine.operation": operation, "botmaker.engine.outcome": outcome})
        if outcome not in _GOOD_OUTCOMES:
            span.set_status(StatusCode.ERROR)
        self._tracing.end(span, ended_ns)

    def end(self, code: str, bot_id: str, request_id: str, ended_ns: int) -> None:
        """Record the end of the call, with the name of its status code."""
        if self._span is None:
            if code == grpc.StatusCode.OK.name:
                return
            self._span = self._start(None)
            for engine_call in self._engine_calls:
                self.engine_call(*engine_call)
        self._span.set_attributes(
            {
                "rpc.system": "grpc",
                "rpc.service": self._method.service,
                "rpc.method": self._method.method,
                "rpc.grpc.status_code": _CODES.get(code, _CODES["UNKNOWN"]),
                "botmaker.request_id": request_id,
                **({"botmaker.bot_id": bot_id} if bot_id else {}),
            }
        )
        if code in _SERVER_ERRORS:
            self._span.set_status(StatusCode.ERROR)
        self._tracing.end(self._span, ended_ns)

    def _start(self, parent: Context | None) -> Span:
        name = f"{self._method.service}/{self._method.method}"
        return self._tracing.span(name, parent, SpanKind.SERVER, self._started_ns)


class _Exporter(OTLPSpanExporter):
    """Counts what it sends, and stops at once when it is shut down."""

    def __init__(self, target: str) -> None:
        options: tuple[tuple[str, str]] = _CHANNEL_OPTIONS  # type: ignore[assignment] # integers are as good
        super().__init__(endpoint=f"http://{target}", insecure=True, channel_options=options)
        self.exported = 0
        self.failed = 0
        self._is_shut = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            if not self._is_shut:
                result = super().export(spans)
        except Exception as exc:  # noqa: BLE001 - the next batch may fare better
            # A shutdown closes the channel under the export. The text may quote a header with a credential.
            if not self._is_shut:
                _log.warning("unexpected error: spans cannot be exported: %s", type(exc).__name__)
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
        else:
            self.failed += len(spans)
        return result

    def shutdown(self, timeout_millis: float = 0, **_: Any) -> None:
        if not self._is_shut:
            self._is_shut = True
            super().shutdown(timeout_millis)


class _OnceAMinute(logging.Filter):
    """Lets one warning about the collector through each minute."""

    def __init__(self) -> None:
        super().__init__()
        self.last = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if record.levelno < logging.WARNING or now - self.last < _WARNING_INTERVAL_SECONDS:
            return False
        self.last = now
        return True


_once_a_minute = _OnceAMinute()


def _parent(metadata: Metadata) -> Context | None:
    """The caller's span, from its ``traceparent``; ``None`` without a valid one."""
    carrier = {key: value for key, value in metadata if key in ("traceparent", "tracestate") and isinstance(value, str)}
    if "traceparent" not in carrier:
        return None
    if len(carrier.get("tracestate", "")) > _MAX_TRACESTATE:
        del carrier["tracestate"]
    context = _propagator.extract(carrier)
    return context if get_current_span(context).get_span_context().is_valid else None
