"""The floor of a gRPC call in Python: an empty ``grpc.aio`` service.

It has methods of the service's names. Status and list answer with the bytes that it was given. Watch says that it is in
sync, and sends these bytes to all its callers at each :meth:`Echo.send`. There is no interceptor, no message is decoded
or encoded, and nothing is looked up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from bench.processes import Server
from botmaker.container.v1 import container_observer_pb2 as pb

_PACKAGE = "botmaker.container.v1"
_SYNCED = pb.WatchContainersResponse(synced=pb.Synced()).SerializeToString()


class Echo(Server):
    """The service, on a unix socket."""

    def __init__(self, socket: str) -> None:
        self._answer = b""
        self._news = asyncio.Event()
        self._sent = 0
        super().__init__(socket)

    def set(self, answer: bytes) -> None:
        """Answer with these bytes from now on."""
        self._answer = answer

    def send(self) -> int:
        """Send them to all watchers: the moment before, in ``time.time_ns()``."""
        moment = time.time_ns()
        self.loop.call_soon_threadsafe(self._send)
        return moment

    @asynccontextmanager
    async def serving(self, socket: str) -> AsyncIterator[None]:
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        answer: Any = unary(self._answered)
        methods: dict[str, dict[str, Any]] = {
            f"{_PACKAGE}.ContainerManager": {"GetContainerStatus": answer, "ListManagedContainers": answer},
            f"{_PACKAGE}.ContainerObserver": {"WatchContainers": stream(self._watched)},
        }
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(service, handlers) for service, handlers in methods.items())
        )
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        yield
        await server.stop(None)

    def _send(self) -> None:
        self._sent += 1
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _answered(self, _request: bytes, _context: Any) -> bytes:
        return self._answer

    async def _watched(self, _request: bytes, context: Any) -> None:
        sent = self._sent
        await context.write(_SYNCED)
        while True:
            # Also when the next one came while this one was being written.
            while sent == self._sent:
                await self._news.wait()
            sent += 1
            await context.write(self._answer)
