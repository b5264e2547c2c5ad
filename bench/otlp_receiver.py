"""A collector of spans that counts them and keeps none. As a program: ``python -m bench.otlp_receiver PORT_FILE``.

It writes the port that it listens on, and then how many spans came so far at each SIGUSR1.
"""

from __future__ import annotations

import signal
import sys
import threading
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from bench.belongings import Belongings
from bench.served_process import ServedProcess
from dev.remains import wait_for

_WAIT_SECONDS = 10.0


class ReceiverProcess(ServedProcess):
    """A running collector."""

    def __init__(self, belongings: Belongings) -> None:
        self._file = belongings.scratch / "collector"
        command = [sys.executable, "-m", "bench.otlp_receiver", str(self._file)]
        super().__init__(self._file, command, belongings.scratch / "collector.log")
        self.endpoint = f"http://127.0.0.1:{self._file.read_text()}"

    def await_spans(self, count: int) -> int:
        """Wait a while for so many spans; how many came."""
        wait_for(lambda: self._spans() >= count, _WAIT_SECONDS)
        return self._spans()

    def _spans(self) -> int:
        """How many came. Raises RuntimeError when the collector has died, or does not answer."""
        self._file.unlink(missing_ok=True)
        self.send_signal(signal.SIGUSR1)
        wait_for(lambda: self._file.exists() or self.ended, _WAIT_SECONDS)
        if not self._file.exists():
            raise RuntimeError("the collector has died" if self.ended else "the collector does not answer")
        return int(self._file.read_text())


class _Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans = 0

    def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the proto names it
        self.spans += sum(len(of_scope.spans) for each in request.resource_spans for of_scope in each.scope_spans)
        return trace_service_pb2.ExportTraceServiceResponse()


def _write(file: Path, number: int) -> None:
    beside = file.with_suffix(".new")
    beside.write_text(str(number))
    beside.rename(file)


def _serve(file: Path) -> None:
    collector = _Collector()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    signal.signal(signal.SIGUSR1, lambda *_: _write(file, collector.spans))
    _write(file, port)
    print("collector serving", flush=True)
    asked.wait()
    server.stop(None).wait()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
