"""Wrapping a gRPC method handler's behaviour, as interceptors do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

# As gRPC's type stubs write them; at run time its classes take no parameters.
Handler = Any
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]


def replace_unary(
    handler: Handler,
    around: Callable[[Any, Any, Any], Awaitable[Any]],
    deserializer: Callable[[bytes], Any] | None = None,
) -> Handler:
    """The handler with ``around(behavior, request, context)`` in place of its behaviour, if it is a unary one.

    Handlers of other kinds, and ``None`` for an unknown method, come back as they are.
    """
    if handler is None or handler.unary_unary is None:
        return handler
    behavior = handler.unary_unary

    async def invoke(request: Any, context: Any) -> Any:
        return await around(behavior, request, context)

    return grpc.unary_unary_rpc_method_handler(
        invoke,
        request_deserializer=deserializer or handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
