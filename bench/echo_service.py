"""The floor of every gRPC call in Python: an empty ``grpc.aio`` service on the same kind of socket.

``Echo`` answers any request with the same bytes; ``Watch`` says that it is in sync, and streams the same bytes to all
its callers at each SIGUSR1; ``Pour`` streams them as many times as the request says. No interceptor, no message decoded
or encoded on the server, nothing looked up. As a program: ``python -m bench.echo_service SOCKET ANSWER_FILE``.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from bench.belongings import Belongings
from bench.candidates import ECHO_METHOD
from bench.served_process import ServedProcess
from botmaker.container.v1 import container_observer_pb2 as pb

_SYNCED = pb.WatchContainersResponse(synced=pb.Synced()).SerializeToString()


class EchoProcess(ServedProcess):
    """A running echo service; its answer is ``answer``."""

    def __init__(self, belongings: Belongings, name: str, answer: bytes) -> None:
        socket = belongings.scratch / f"{name}.sock"
        answer_file = belongings.scratch / f"{name}.answer"
        answer_file.write_bytes(answer)
        command = [sys.executable, "-m", "bench.echo_service", str(socket), str(answer_file)]
        super().__init__(socket, command, belongings.scratch / f"{name}.log")

    def tell(self) -> None:
        """Stream the answer once more to everybody who watches."""
        self.send_signal(signal.SIGUSR1)


class _Echo:
    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._news = asyncio.Event()
        self._told = 0

    async def echo(self, _request: bytes, _context: Any) -> bytes:
        return self._answer

    async def watch(self, _request: bytes, context: Any) -> None:
        told = self._told
        await context.write(_SYNCED)
        while True:
            # One that is still writing must not miss what comes next.
            while told == self._told:
                await self._news.wait()
            told += 1
            await context.write(self._answer)

    async def pour(self, request: bytes, context: Any) -> None:
        for _ in range(int(request)):
            await context.write(self._answer)

    def tell(self) -> None:
        self._told += 1
        news, self._news = self._news, asyncio.Event()
        news.set()


async def _serve(socket: str, answer: bytes) -> None:
    echo = _Echo(answer)
    _, service, method = ECHO_METHOD.split("/")
    server = grpc.aio.server()
    handlers: dict[str, Any] = {
        method: grpc.unary_unary_rpc_method_handler(echo.echo),
        "Pour": grpc.unary_stream_rpc_method_handler(echo.pour),
        "Watch": grpc.unary_stream_rpc_method_handler(echo.watch),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, echo.tell)
    print("echo serving", flush=True)
    await asked.wait()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], Path(sys.argv[2]).read_bytes()))
