"""Wraps the behaviour of gRPC method handlers, for interceptors."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

# As gRPC's type stubs write them; at run time its classes take no parameters.
Handler = Any
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]
Around = Callable[[Any, Any, Any], Awaitable[Any]]


class Wrapped:
    """Wraps each method's handler once for one interceptor: all calls of a method share its handler."""

    def __init__(self, wrap: Callable[[str, Handler], Handler]) -> None:
        self._wrap = wrap
        self._handlers: dict[str, Handler] = {}

    async def __call__(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler:
        """The wrapped handler of the call's method; ``None`` for an unknown method."""
        known = self._handlers.get(details.method)
        if known is not None:
            return known
        handler = await continuation(details)
        if handler is None:
            return None
        self._handlers[details.method] = wrapped = self._wrap(details.method, handler)
        return wrapped


def replace_behavior(handler: Handler, around: Around) -> Handler:
    """The handler with ``around(behavior, request, context)`` in place of its behaviour.

    For calls whose behaviour is a coroutine function; others come back as they are. ``request`` is the iterator of
    all requests where a call may have many. A response may be a message, or ``bytes``: its wire form.
    """
    behavior = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    if behavior is None or not inspect.iscoroutinefunction(behavior):
        return handler
    serialize = handler.response_serializer
    make: Callable[..., Handler] = grpc.stream_stream_rpc_method_handler
    if handler.unary_unary:
        make = grpc.unary_unary_rpc_method_handler
    elif handler.unary_stream:
        make = grpc.unary_stream_rpc_method_handler
    elif handler.stream_unary:
        make = grpc.stream_unary_rpc_method_handler

    async def invoke(request: Any, context: Any) -> Any:
        result = around(behavior, request, context)
        # Streams may stay open for days, and need not keep it.
        del request
        return await result

    def serialized(response: Any) -> bytes:
        encoded: bytes = response if type(response) is bytes or serialize is None else serialize(response)
        return encoded

    return make(
        invoke,
        request_deserializer=handler.request_deserializer,
        response_serializer=serialized,
    )
