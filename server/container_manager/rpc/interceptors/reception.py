"""Receives and decodes each request inside the interceptors, so that they bound it and answer for it.

gRPC by itself receives a unary call's request before it calls any handler: nothing bounds how many requests are half
received, nor for how long. So every method is registered with gRPC as one with a stream of requests, which is the same
on the wire, and reads its request here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from container_manager.errors import CapacityExceededError, FieldViolation, InvalidConfigError
from container_manager.observability.call import current_call
from container_manager.rpc.interceptors.handlers import Continuation, Handler, Wrapped
from container_manager.scheduling.reception import Reception

_HEALTH_PREFIX = "/grpc.health.v1.Health/"


class ReceptionInterceptor(grpc.aio.ServerInterceptor):
    """Of one listener. Health checks, which need no token, have a reception of their own."""

    def __init__(self) -> None:
        self._requests = Reception()
        self._health = Reception()
        self._dialogues = Reception()
        self._wrapped = Wrapped(self._received)

    def close(self) -> None:
        """End the calls whose requests have not arrived."""
        for reception in (self._requests, self._health, self._dialogues):
            reception.close()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        return await self._wrapped(continuation, handler_call_details)

    def _received(self, method: str, handler: Handler) -> Handler:
        if handler.stream_stream:
            return _dialogue(handler, self._dialogues)
        reception = self._health if method.startswith(_HEALTH_PREFIX) else self._requests
        behavior = handler.unary_unary or handler.unary_stream
        deserialize = handler.request_deserializer

        async def received(_requests: Any, context: Any) -> Any:
            data = await reception.receive(context.read)
            message = _decoded(deserialize, data)
            call = current_call.get()
            if call is not None:
                call.bot_id = getattr(message, "bot_id", "")
            return await behavior(message, context)

        make: Any = (
            grpc.stream_unary_rpc_method_handler if handler.unary_unary else grpc.stream_stream_rpc_method_handler
        )
        return make(received, request_deserializer=None, response_serializer=handler.response_serializer)


def _dialogue(handler: Handler, reception: Reception) -> Handler:
    async def received(_requests: Any, context: Any) -> None:
        await handler.stream_stream(_messages(context, handler.request_deserializer, reception), context)

    return grpc.stream_stream_rpc_method_handler(
        received, request_deserializer=None, response_serializer=handler.response_serializer
    )


async def _messages(context: Any, deserialize: Any, reception: Reception) -> AsyncIterator[Any]:
    # A dialogue that rests is no fault: it ends, and the client begins another when it needs one.
    with suppress(CapacityExceededError):
        while (data := await reception.receive(context.read)) is not grpc.aio.EOF:
            yield _decoded(deserialize, data)


def _decoded(deserialize: Any, data: Any) -> Any:
    if data is not grpc.aio.EOF:
        try:
            return deserialize(data)
        except DecodeError:
            pass
    raise InvalidConfigError(FieldViolation("request", "is not an encoded message of the RPC's type"))
