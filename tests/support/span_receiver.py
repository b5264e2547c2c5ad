"""A collector of spans for tests: OTLP over gRPC on a loopback port."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.support.waiting import wait_until

UNSET, ERROR = Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR


class SpanReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """A context manager."""

    def __init__(self) -> None:
        self.requests: list[trace_service_pb2.ExportTraceServiceRequest] = []
        self.refusal: grpc.StatusCode | None = None
        """The error that answers every export."""
        self.refused = 0
        """How many exports it has refused."""
        self.metadata: list[tuple[str, str]] = []
        """The metadata of the last export."""
        self.asked = threading.Event()
        """Set when an export has arrived."""
        self.gate = threading.Event()
        """Exports are answered only while it is set."""
        self.gate.set()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    @property
    def endpoint(self) -> str:
        """Its address, for ``--otlp-endpoint``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def spans(self) -> list[Any]:
        """All spans received."""
        return [
            span
            for request in list(self.requests)
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    def await_spans(self, wanted: Callable[[Any], bool], count: int = 1) -> list[Any]:
        """Wait for ``count`` matching spans; returns them all."""

        def found() -> list[Any]:
            spans = [span for span in self.spans if wanted(span)]
            return spans if len(spans) >= count else []

        return wait_until(found, f"{count} spans", 60)

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the proto names it
        self.metadata = list(context.invocation_metadata())
        self.asked.set()
        self.gate.wait(60)
        if self.refusal is not None:
            self.refused += 1
            context.abort(self.refusal, "not now")
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.stop(None).wait()


def attributes(span: Any) -> dict[str, Any]:
    """A span's attributes."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}
