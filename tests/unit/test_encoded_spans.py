"""Our spans beside those of OpenTelemetry's SDK and its encoder, field by field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanContext
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from container_manager.observability.span_encoding import SCOPE, SpanEncoder
from container_manager.observability.spans import CallSpan, EngineSpan, Span
from container_manager.observability.trace_context import TraceContext
from tests.support.span_receiver import attributes

TRACE, SPAN, PARENT, CHILD = 0xABCDEF << 100, 0x1234, 0x5678 << 40, 0x9ABC
BEGUN, ENDED = 1_790_000_000_123_456_789, 1_790_000_000_223_456_789
SERVICE, METHOD, BOT = "botmaker.container.v1.ContainerManager", "StopContainer", "7c0e0f0e-6f0d-4b43-9b60-0a7bb0d3f7a1"
ROOT = TraceContext(TRACE, SPAN)
CONTINUED = TraceContext(TRACE, SPAN, PARENT, "vendor=a,other=b")


def sdk_context(span_id: int, trace: TraceContext, *, remote: bool = False) -> SpanContext:
    state = TraceState.from_header([trace.state]) if trace.state else None
    return SpanContext(trace.trace_id, span_id, remote, TraceFlags(TraceFlags.SAMPLED), state)


def as_the_sdk_sends_it(**span: Any) -> Any:
    """The request that the SDK's exporter would send."""
    resource = Resource({"service.name": "container-manager", "service.version": "0.1.0"})
    scope = InstrumentationScope(SCOPE)
    return encode_spans([ReadableSpan(resource=resource, instrumentation_scope=scope, **span)])


def of_call(trace: TraceContext, code: str, number: int, status: StatusCode, bot_id: str = BOT) -> tuple[Span, Any]:
    ours = CallSpan(trace, SERVICE, METHOD, code, bot_id, "r-1", BEGUN, ENDED)
    known: dict[str, Any] = {
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": METHOD,
        "rpc.grpc.status_code": number,
        "botmaker.request_id": "r-1",
        **({"botmaker.bot_id": bot_id} if bot_id else {}),
    }
    theirs = as_the_sdk_sends_it(
        name=f"{SERVICE}/{METHOD}",
        kind=SpanKind.SERVER,
        context=sdk_context(trace.span_id, trace),
        parent=sdk_context(trace.parent_id, trace, remote=True) if trace.parent_id else None,
        attributes=known,
        status=Status(status),
        start_time=BEGUN,
        end_time=ENDED,
    )
    return ours, theirs


def of_engine_call(trace: TraceContext, outcome: str, status: StatusCode) -> tuple[Span, Any]:
    ours = EngineSpan(trace, CHILD, "stop_container", outcome, BEGUN, ENDED)
    theirs = as_the_sdk_sends_it(
        name="engine stop_container",
        kind=SpanKind.CLIENT,
        context=sdk_context(CHILD, trace),
        parent=sdk_context(trace.span_id, trace),
        attributes={"botmaker.engine.operation": "stop_container", "botmaker.engine.outcome": outcome},
        status=Status(status),
        start_time=BEGUN,
        end_time=ENDED,
    )
    return ours, theirs


@pytest.mark.parametrize(
    "make",
    [
        lambda: of_call(ROOT, "OK", 0, StatusCode.UNSET),
        lambda: of_call(CONTINUED, "OK", 0, StatusCode.UNSET),
        lambda: of_call(ROOT, "NOT_FOUND", 5, StatusCode.UNSET, bot_id=""),
        lambda: of_call(CONTINUED, "CANCELLED", 1, StatusCode.UNSET),
        lambda: of_call(ROOT, "INTERNAL", 13, StatusCode.ERROR),
        lambda: of_call(CONTINUED, "UNAVAILABLE", 14, StatusCode.ERROR),
        lambda: of_engine_call(ROOT, "ok", StatusCode.UNSET),
        lambda: of_engine_call(CONTINUED, "timeout", StatusCode.ERROR),
        lambda: of_engine_call(CONTINUED, "not_found", StatusCode.UNSET),
    ],
)
def test_a_span_is_what_the_sdk_would_send(
    make: Callable[[], tuple[Span, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("container_manager.observability.span_encoding.version", lambda _: "0.1.0")
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    ours, theirs = make()
    assert theirs == SpanEncoder().request([ours])


def test_all_spans_of_a_request_are_of_one_process() -> None:
    pairs = [of_call(ROOT, "OK", 0, StatusCode.UNSET), of_engine_call(ROOT, "ok", StatusCode.UNSET)]
    request = SpanEncoder().request([ours for ours, _ in pairs])
    (of_resource,) = request.resource_spans
    (of_scope,) = of_resource.scope_spans
    assert [theirs.resource_spans[0].scope_spans[0].spans[0] for _, theirs in pairs] == list(of_scope.spans)


def test_the_machine_says_what_else_is_known_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "bots")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    found = attributes(SpanEncoder().request([]).resource_spans[0].resource)
    assert ("bots", "test") == (found["service.name"], found["deployment.environment.name"])
    assert "service.version" in found
