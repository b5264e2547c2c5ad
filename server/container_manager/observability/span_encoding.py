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
_SERVER = trace_pb2.Span.SPAN_KIND_SERVER
_CLIENT = trace_pb2.Span.SPAN_KIND_CLIENT
_ERROR = trace_pb2.Status.STATUS_CODE_ERROR
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
    _fill(target, span, trace.span_id, trace.parent_id)
    target.name = f"{span.service}/{span.method}"
    target.kind = _SERVER
    target.flags = _PARENT_KNOWN | (_PARENT_REMOTE if trace.parent_id else 0)
    target.attributes.extend(_of_method(span.service, span.method))
    target.attributes.append(_number("rpc.grpc.status_code", _CODES.get(span.code, _CODES["UNKNOWN"])))
    target.attributes.append(_text("botmaker.request_id", span.request_id))
    if span.bot_id:
        target.attributes.append(_text("botmaker.bot_id", span.bot_id))
    if span.code in _FAULTS:
        target.status.code = _ERROR


def _fill_engine_call(target: trace_pb2.Span, span: EngineSpan) -> None:
    trace = span.trace
    _fill(target, span, span.span_id, trace.span_id)
    target.name = f"engine {span.operation}"
    target.kind = _CLIENT
    target.flags = _PARENT_KNOWN
    target.attributes.append(_text("botmaker.engine.operation", span.operation))
    target.attributes.append(_text("botmaker.engine.outcome", span.outcome))
    if span.outcome not in _GOOD_OUTCOMES:
        target.status.code = _ERROR


def _fill(target: trace_pb2.Span, span: Span, span_id: int, parent_id: int) -> None:
    target.trace_id = span.trace.trace_id.to_bytes(16, "big")
    target.span_id = span_id.to_bytes(8, "big")
    if parent_id:
        target.parent_span_id = parent_id.to_bytes(8, "big")
    target.trace_state = span.trace.state
    target.start_time_unix_nano = span.begun_ns
    target.end_time_unix_nano = span.ended_ns
    # Present even where it says nothing, as the SDK sends it.
    target.status.SetInParent()


@cache
def _of_method(service: str, method: str) -> tuple[KeyValue, ...]:
    return _text("rpc.system", "grpc"), _text("rpc.service", service), _text("rpc.method", method)


def _text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def _number(key: str, value: int) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(int_value=value))
