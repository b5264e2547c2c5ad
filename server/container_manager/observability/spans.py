"""What a span will be made of, as cheap as it can be kept; ``span_encoding`` makes it in the exporter's thread."""

from __future__ import annotations

from typing import NamedTuple

from container_manager.observability.trace_context import TraceContext


class CallSpan(NamedTuple):
    """A call that has ended."""

    trace: TraceContext
    service: str
    method: str
    code: str
    """The name of its gRPC status code."""
    bot_id: str
    request_id: str
    begun_ns: int
    ended_ns: int


class EngineSpan(NamedTuple):
    """A call to the engine on behalf of a call."""

    trace: TraceContext
    """The call's."""
    span_id: int
    operation: str
    outcome: str
    begun_ns: int
    ended_ns: int


Span = CallSpan | EngineSpan
