"""A service that refuses a given number of calls, and records all calls."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_manager_pb2_grpc as pb_grpc

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"


class Servicer(pb_grpc.ContainerManagerServicer):
    """Refuses the next ``refusals`` calls, and records all."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, dict[str, Any], float | None]] = []
        self.refusals = 0
        self.code = grpc.StatusCode.UNAVAILABLE
        self.trailers: tuple[tuple[str, str | bytes], ...] = ()

    def _answer(self, name: str, request: Any, context: grpc.ServicerContext, response: Any) -> Any:
        metadata = dict(context.invocation_metadata())
        self.calls.append((name, request, metadata, context.time_remaining()))
        if self.refusals:
            self.refusals -= 1
            context.set_trailing_metadata(self.trailers)
            context.abort(self.code, "refused")
        return response

    def names(self) -> list[str]:
        return [name for name, *_ in self.calls]


def _method(name: str) -> Callable[..., Any]:
    def answer(self: Servicer, request: Any, context: grpc.ServicerContext) -> Any:
        return self._answer(name, request, context, getattr(pb, f"{name}Response")())

    return answer


METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["ContainerManager"].methods]
for _name in METHODS:
    setattr(Servicer, _name, _method(_name))


@contextmanager
def serving(servicer: Servicer, *further: grpc.GenericRpcHandler) -> Iterator[str]:
    """Serves on a unix socket, with ``further`` handlers of other services; yields the target."""
    with tempfile.TemporaryDirectory(prefix="client-") as directory:
        server = grpc.server(futures.ThreadPoolExecutor(4))
        pb_grpc.add_ContainerManagerServicer_to_server(servicer, server)
        server.add_generic_rpc_handlers(further)
        server.add_insecure_port(f"unix:{directory}/s.sock")
        server.start()
        yield f"unix://{directory}/s.sock"
        server.stop(0).wait()


def call(stub: Any, name: str, **kwargs: Any) -> Any:
    """Call a method, for the bot where it has one."""
    request = getattr(pb, f"{name}Request")
    fields = {"bot_id": BOT} if "bot_id" in request.DESCRIPTOR.fields_by_name else {}
    return getattr(stub, name)(request(**fields), **kwargs)
