"""Spans as OTLP has them, built straight into its messages: by way of the SDK's own spans they cost several times more.

What is in them is what the SDK would send (OTLP's ``trace.proto``; OpenTelemetry's semantic conventions for gRPC).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.metadata import version

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource

from container_manager.observability.spans import CallSpan, EngineSpan, Span

SCOPE = "container_manager"
_DISTRIBUTION = "botmaker-container-manager"
_CODES = {status.name: status.value[0] for status in grpc.StatusCode}
# The others are the caller's fault, or nobody's.
_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
# That there is no such container is an answer like any other.
_GOOD_OUTCOMES = {"ok", "not_found"}
# Where they stand among a call's attributes.
_REQUEST_ID, _BOT_ID = 4, 5
_PARENT_KNOWN = trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_PARENT_REMOTE = trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


class SpanEncoder:
    """Makes OTLP requests of spans, all of them of this process."""

    def __init__(self) -> None:
        """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES may say what else is to be known of the process."""
        known = Resource({SERVICE_NAME: "container-manager", SERVICE_VERSION: version(_DISTRIBUTION)})
        found = known.merge(OTELResourceDetector().detect())
        self._resource = [_text(key, str(value)) for key, value in found.attributes.items()]

    def request(self, spans: Iterable[Span]) -> ExportTraceServiceRequest:
        """One request with all of them."""
        request = ExportTraceServiceRequest()
        resource_spans = request.resource_spans.add()
        resource_spans.resource.attributes.extend(self._resource)
        scope_spans = resource_spans.scope_spans.add()
        scope_spans.scope.name = SCOPE
        for span in spans:
            if isinstance(span, CallSpan):
                _fill_call(scope_spans.spans.add(), span)
            else:
                _fill_engine_call(scope_spans.spans.add(), span)
        return request


def _fill_call(target: trace_pb2.Span, span: CallSpan) -> None:
    trace = span.trace
    target.CopyFrom(_call_template(span.service, span.method, span.code, bool(span.bot_id)))
    _fill(target, span, trace.span_id, trace.parent_id)
    if trace.parent_id:
        target.flags = _PARENT_KNOWN | _PARENT_REMOTE
    target.attributes[_REQUEST_ID].value.string_value = span.request_id
    if span.bot_id:
        target.attributes[_BOT_ID].value.string_value = span.bot_id


def _fill_engine_call(target: trace_pb2.Span, span: EngineSpan) -> None:
    target.CopyFrom(_engine_template(span.operation, span.outcome))
    _fill(target, span, span.span_id, span.trace.span_id)


def _fill(target: trace_pb2.Span, span: Span, span_id: int, parent_id: int) -> None:
    """What is different in each."""
    target.trace_id = span.trace.trace_id.to_bytes(16, "big")
    target.span_id = span_id.to_bytes(8, "big")
    if parent_id:
        target.parent_span_id = parent_id.to_bytes(8, "big")
    if span.trace.state:
        target.trace_state = span.trace.state
    target.start_time_unix_nano = span.begun_ns
    target.end_time_unix_nano = span.ended_ns


@cache
def _call_template(service: str, method: str, code: str, has_bot: bool) -> trace_pb2.Span:
    """What is the same in all calls that end so."""
    attributes = [
        _text("rpc.system", "grpc"),
        _text("rpc.service", service),
        _text("rpc.method", method),
        _number("rpc.grpc.status_code", _CODES.get(code, _CODES["UNKNOWN"])),
        _text("botmaker.request_id", ""),
    ]
    if has_bot:
        attributes.append(_text("botmaker.bot_id", ""))
    return _template(f"{service}/{method}", trace_pb2.Span.SPAN_KIND_SERVER, attributes, failed=code in _FAULTS)


@cache
def _engine_template(operation: str, outcome: str) -> trace_pb2.Span:
    attributes = [_text("botmaker.engine.operation", operation), _text("botmaker.engine.outcome", outcome)]
    failed = outcome not in _GOOD_OUTCOMES
    return _template(f"engine {operation}", trace_pb2.Span.SPAN_KIND_CLIENT, attributes, failed=failed)


def _template(
    name: str, kind: trace_pb2.Span.SpanKind.ValueType, attributes: list[KeyValue], *, failed: bool
) -> trace_pb2.Span:
    span = trace_pb2.Span(name=name, kind=kind, attributes=attributes, flags=_PARENT_KNOWN)
    # Present even where it says nothing, as the SDK sends it.
    span.status.SetInParent()
    if failed:
        span.status.code = trace_pb2.Status.STATUS_CODE_ERROR
    return span


def _text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def _number(key: str, value: int) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(int_value=value))
