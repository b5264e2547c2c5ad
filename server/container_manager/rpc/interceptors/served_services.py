"""Refuses calls of services that a listener does not serve."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor

from container_manager.errors import ServiceNotAllowedError
from container_manager.rpc.interceptors.errors import abort
from container_manager.rpc.interceptors.handlers import Continuation, Handler


class ServedServicesInterceptor(grpc.aio.ServerInterceptor):
    """Refuses all methods of these services, before the request is read."""

    def __init__(self, refused: Iterable[ServiceDescriptor]) -> None:
        self._refusals = {service.full_name: _refusal(service.name) for service in refused}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        service, _, _ = handler_call_details.method.removeprefix("/").rpartition("/")
        refusal = self._refusals.get(service)
        return await continuation(handler_call_details) if refusal is None else refusal


def _refusal(service: str) -> Handler:
    async def refuse(_requests: Any, context: Any) -> Any:
        await abort(
            context,
            ServiceNotAllowedError(f"this listener does not serve {service}; the server's option --services allows it"),
        )

    # For every kind of call: it comes before the first message is read.
    return grpc.stream_stream_rpc_method_handler(refuse)
