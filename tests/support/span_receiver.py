"""A collector of spans, for the tests: OTLP over gRPC on a loopback port."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.support.waiting import wait_until


class SpanReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """A context manager; after the exit nothing of it is left."""

    def __init__(self) -> None:
        self.requests: list[trace_service_pb2.ExportTraceServiceRequest] = []
        self.refusal: grpc.StatusCode | None = None
        """What every export is answered with, in place of being taken."""
        self.rejected = 0
        """How many spans of each export are refused though it is answered with OK."""
        self.gate = threading.Event()
        """No export is answered until it is set, which it is."""
        self.gate.set()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    @property
    def endpoint(self) -> str:
        """As ``--otlp-endpoint`` takes it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def spans(self) -> list[Any]:
        """All that came."""
        return [
            span
            for request in list(self.requests)
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    def await_spans(self, wanted: Callable[[Any], bool], count: int = 1) -> list[Any]:
        """Wait for so many that are wanted; all of these."""

        def found() -> list[Any]:
            spans = [span for span in self.spans if wanted(span)]
            return spans if len(spans) >= count else []

        return wait_until(found, f"{count} spans", 60)

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the proto names it
        self.gate.wait(60)
        if self.refusal is not None:
            context.abort(self.refusal, "not now")
        self.requests.append(request)
        rejected = trace_service_pb2.ExportTracePartialSuccess(rejected_spans=self.rejected)
        return trace_service_pb2.ExportTraceServiceResponse(partial_success=rejected)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.stop(None).wait()


def attributes(span: Any) -> dict[str, Any]:
    """A span's attributes."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}
