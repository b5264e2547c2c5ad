"""The floor of a gRPC call in Python: an empty ``grpc.aio`` service.

It has methods of the service's names. Status and list answer with the bytes of the last ``Set``. Watch says that it is
in sync, and sends these bytes to all its callers at each SIGUSR1. There is no interceptor, no message is decoded or
encoded, and nothing is looked up. On a TCP port, which its first line names, it also takes OpenTelemetry's exports of
spans, and counts them.

As a program: ``python -m bench.echo_service SOCKET``.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import grpc
import grpc.aio

from botmaker.container.v1 import container_observer_pb2 as pb

_SYNCED = pb.WatchContainersResponse(synced=pb.Synced()).SerializeToString()


class _Echo:
    def __init__(self) -> None:
        self._answer = b""
        self._news = asyncio.Event()
        self._sent = 0
        self._exports = 0

    async def answer(self, _request: bytes, _context: Any) -> bytes:
        return self._answer

    async def set(self, request: bytes, _context: Any) -> bytes:
        self._answer = request
        return b""

    async def watch(self, _request: bytes, context: Any) -> None:
        sent = self._sent
        await context.write(_SYNCED)
        while True:
            # Also when the next one came while this one was being written.
            while sent == self._sent:
                await self._news.wait()
            sent += 1
            await context.write(self._answer)

    async def export(self, _request: bytes, _context: Any) -> bytes:
        self._exports += 1
        return b""

    async def exports(self, _request: bytes, _context: Any) -> bytes:
        return str(self._exports).encode()

    def send(self) -> None:
        self._sent += 1
        news, self._news = self._news, asyncio.Event()
        news.set()


async def _serve(socket: str) -> None:
    echo = _Echo()
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    package = "botmaker.container.v1"
    answer: Any = unary(echo.answer)
    methods: dict[str, dict[str, Any]] = {
        f"{package}.ContainerManager": {"GetContainerStatus": answer, "ListManagedContainers": answer},
        f"{package}.ContainerObserver": {"WatchContainers": stream(echo.watch)},
        "bench.Echo": {"Set": unary(echo.set), "Exports": unary(echo.exports)},
        "opentelemetry.proto.collector.trace.v1.TraceService": {"Export": unary(echo.export)},
    }
    # As large as a list may be.
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", 32 * 1024 * 1024),))
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(service, handlers) for service, handlers in methods.items())
    )
    server.add_insecure_port(f"unix:{socket}")
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, asked.set)
    loop.add_signal_handler(signal.SIGUSR1, echo.send)
    print(f"echo serving on {port}", flush=True)
    await asked.wait()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
