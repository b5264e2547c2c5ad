"""Sends spans to a collector, from a thread of its own; nobody ever waits for it.

Spans wait in a bounded queue. What finds it full, what the collector will not have, and what is left when the service
ends is dropped and counted. A collector that is away is tried again, less and less often.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Protocol

import grpc
import structlog
from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from container_manager.observability.spans import Span

MAX_QUEUE = 8192
_MAX_BATCH = 512
_INTERVAL_SECONDS = 1.0
_EXPORT_SECONDS = 10.0
_END_SECONDS = 0.1
_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 30.0
_WARNING_INTERVAL_SECONDS = 60.0
# Encoded at a time before the interpreter's lock is offered to the event loop, which otherwise waits for milliseconds.
_AT_A_TIME = 4
_TRY_AGAIN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
)
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 5000))

_log = structlog.get_logger(__name__)


class Encoder(Protocol):
    """Makes the request of an export."""

    def request(self, spans: Iterable[Span]) -> Message:
        """With these spans in it."""


class SpanExporter:
    """Takes spans from any thread, from :meth:`start` to :meth:`close`."""

    def __init__(self, target: str, encoder: Encoder, *, interval_seconds: float = _INTERVAL_SECONDS) -> None:
        """``target``: where a collector takes OTLP over gRPC without TLS, as ``host:port``."""
        self._target = target
        self._encoder = encoder
        self._interval_seconds = interval_seconds
        self._queue: deque[Span] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._ends = 0.0
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._thread: threading.Thread | None = None
        self._warned_at = 0.0
        self.exported = 0
        """How many spans the collector has taken."""
        self.dropped: Counter[str] = Counter(dict.fromkeys(("queue_full", "refused", "shutdown"), 0))
        """How many were dropped, by the reason."""

    def add(self, span: Span) -> None:
        """Have a span sent; at once dropped when too many wait already."""
        if len(self._queue) >= MAX_QUEUE or self._closing.is_set():
            self._drop("queue_full" if not self._closing.is_set() else "shutdown", 1)
            return
        self._queue.append(span)
        if len(self._queue) == _MAX_BATCH:
            self._wake.set()

    def start(self) -> None:
        """Begin to send."""
        self._channel = grpc.insecure_channel(self._target, options=_OPTIONS)
        # A daemon: it must not hold up the end of the process, whatever the collector does.
        stub = TraceServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._thread = threading.Thread(target=self._run, args=(stub,), name="span exporter", daemon=True)
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Send what waits, within so many seconds, and drop the rest."""
        if self._thread is None or self._channel is None:
            return
        self._ends = time.monotonic() + seconds
        self._closing.set()
        self._wake.set()
        self._thread.join(seconds)
        # Ends an export that is under way.
        self._channel.close()
        self._thread.join(_END_SECONDS)
        self._drop("shutdown", len(self._queue))
        self._queue.clear()

    def _run(self, stub: TraceServiceStub) -> None:
        while not self._closing.is_set():
            self._wake.wait(self._interval_seconds)
            self._wake.clear()
            while (batch := self._batch()) and not self._is_over():
                self._deliver(stub, batch)
            self._drop("shutdown", len(batch))

    def _batch(self) -> list[Span]:
        return [self._queue.popleft() for _ in range(min(len(self._queue), _MAX_BATCH))]

    def _deliver(self, stub: TraceServiceStub, batch: list[Span]) -> None:
        """Send it until it is taken or refused, or the service ends."""
        delay = _FIRST_RETRY_SECONDS
        try:
            request = self._encoder.request(_yielding(batch))
        except Exception:  # noqa: BLE001 - the thread must live on
            _log.exception("a bug: spans cannot be encoded")
            self._drop("refused", len(batch))
            return
        while True:
            try:
                answer = stub.Export(request, timeout=self._export_seconds())
            except grpc.RpcError as exc:
                code = exc.code() if isinstance(exc, grpc.Call) else grpc.StatusCode.UNKNOWN
                self._warn(code)
                if code not in _TRY_AGAIN:
                    self._drop("refused", len(batch))
                    return
            except ValueError:
                # The channel is closed.
                self._drop("shutdown", len(batch))
                return
            else:
                # What it will not have it has said once and for all: the rest is taken, and nothing is sent again.
                refused = min(max(0, answer.partial_success.rejected_spans), len(batch))
                self.exported += len(batch) - refused
                self._drop("refused", refused)
                return
            if self._closing.wait(delay):
                self._drop("shutdown", len(batch))
                return
            delay = min(delay * 2, _LAST_RETRY_SECONDS)

    def _is_over(self) -> bool:
        return self._closing.is_set() and time.monotonic() >= self._ends

    def _export_seconds(self) -> float:
        if not self._closing.is_set():
            return _EXPORT_SECONDS
        return max(0.01, min(_EXPORT_SECONDS, self._ends - time.monotonic()))

    def _warn(self, code: grpc.StatusCode) -> None:
        now = time.monotonic()
        if self._warned_at and now - self._warned_at < _WARNING_INTERVAL_SECONDS:
            return
        self._warned_at = now
        _log.warning("spans cannot be delivered; calls are served as ever", collector=self._target, code=code.name)

    def _drop(self, reason: str, count: int) -> None:
        with self._lock:
            self.dropped[reason] += count


def _yielding(spans: list[Span]) -> Iterator[Span]:
    for number, span in zip(itertools.count(1), spans, strict=False):
        yield span
        if number % _AT_A_TIME == 0:
            time.sleep(0)
