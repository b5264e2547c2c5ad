"""Receives and decodes each request inside the interceptors, so that they bound it and answer for it.

gRPC by itself receives a unary call's request before it calls any handler: nothing bounds how many requests are half
received, nor for how long. So every method is registered with gRPC as one with a stream of requests, which is the same
on the wire, and reads its request here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sized
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from container_manager.errors import CapacityExceededError, FieldViolation, InvalidConfigError
from container_manager.observability.call import current_call
from container_manager.rpc.interceptors.handlers import Continuation, Handler, Wrapped
from container_manager.rpc.services import SERVICES
from container_manager.scheduling.allowance import Allowance
from container_manager.scheduling.reception import Reception

_HEALTH_PREFIX = "/grpc.health.v1.Health/"
_OWN_PREFIXES = tuple(f"/{service.full_name}/" for service in SERVICES.values())

MAX_NAME_BYTES = 4 * 1024
"""The largest request of health and of reflection, which names a service or a symbol."""
SMALL_BYTES = 16 * 1024
"""The number of calls is enough to bound the memory of requests that take no more than this."""
ENTRY_BYTES = 256
"""The memory of an entry of a list or map, decoded and as a value of the domain, beside its bytes. It may be empty."""
_REPLACED_FACTOR = 12
"""Of a value that a later one in the same request replaces: an entry of a map keeps up to 24 bytes for its two."""
MAX_KEPT_BYTES = 64 * 1024 * 1024
MAX_KEPT_BY_STREAMS_BYTES = 16 * 1024 * 1024
_REFUSAL = "larger requests under way take {kept} bytes of memory already; try again in a moment, or send a smaller one"


class KeptRequests:
    """The larger requests of one server's calls, which are kept until the call has ended."""

    def __init__(self) -> None:
        self._of_calls = Allowance(MAX_KEPT_BYTES, _REFUSAL)
        # Streams may stay open for days. They drop the message; the entries that they keep have an allowance.
        self._of_streams = Allowance(MAX_KEPT_BY_STREAMS_BYTES, _REFUSAL)

    def keep(self, message: Any, size: int, *, by_stream: bool) -> AbstractContextManager[None]:
        """Keep a request inside the block. Raises :class:`CapacityExceededError` when they are too large together.

        Raises :class:`InvalidConfigError` for one that is too large alone.

        ``size``: of its encoded form.
        """
        memory = size if by_stream else _memory(message, size)
        if memory <= SMALL_BYTES:
            return nullcontext()
        if memory > MAX_KEPT_BYTES:
            problem = f"has too many entries: it takes {memory} bytes of memory, and may take {MAX_KEPT_BYTES}"
            raise InvalidConfigError(FieldViolation("request", problem))
        return (self._of_streams if by_stream else self._of_calls).keep(memory)


def _memory(message: Message, size: int) -> int:
    # Most requests: so few entries take little memory.
    if size <= SMALL_BYTES // ENTRY_BYTES:
        return size
    return size + _REPLACED_FACTOR * (size - message.ByteSize()) + ENTRY_BYTES * _entries(message)


def _entries(message: Message) -> int:
    """How many entries the lists and maps of a message have, with those of its fields."""
    entries = 0
    for _, value in message.ListFields():
        if isinstance(value, Message):
            entries += _entries(value)
        elif isinstance(value, Sized) and not isinstance(value, str | bytes):
            entries += len(value)
    return entries


class ReceptionInterceptor(grpc.aio.ServerInterceptor):
    """Of one listener. Health checks, which need no token, have a reception of their own."""

    def __init__(self, kept: KeptRequests) -> None:
        self._kept = kept
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
        is_own = method.startswith(_OWN_PREFIXES)
        behavior = handler.unary_unary or handler.unary_stream
        deserialize, by_stream = handler.request_deserializer, handler.unary_stream is not None

        async def received(_requests: Any, context: Any) -> Any:
            data = await reception.receive(context.read)
            message = _decoded(deserialize, data) if is_own else _small(deserialize, data)
            size = len(data)
            del data
            call = current_call.get()
            if call is not None:
                call.bot_id = getattr(message, "bot_id", "")
            with self._kept.keep(message, size, by_stream=by_stream):
                result = behavior(message, context)
                # A stream drops it when it has read it.
                del message
                return await result

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
            yield _small(deserialize, data)


def _small(deserialize: Any, data: Any) -> Any:
    if data is not grpc.aio.EOF and len(data) > MAX_NAME_BYTES:
        raise InvalidConfigError(FieldViolation("request", f"has {len(data)} bytes, and may have {MAX_NAME_BYTES}"))
    return _decoded(deserialize, data)


def _decoded(deserialize: Any, data: Any) -> Any:
    if data is not grpc.aio.EOF:
        try:
            return deserialize(data)
        except DecodeError:
            pass
    raise InvalidConfigError(FieldViolation("request", "is not an encoded message of the RPC's type"))
