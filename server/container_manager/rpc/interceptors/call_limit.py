"""How many calls may be under way. Further ones are refused at once, with a reason, before they take a worker.

gRPC's own bound (``maximum_concurrent_rpcs``) counts all calls alike: waiting stops would keep out statuses and probes.
Its refusal carries no reason.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor_pb2 import MethodOptions

from container_manager.errors import CapacityExceededError
from container_manager.rpc.interceptors.handlers import Continuation, Handler, Wrapped, replace_behavior
from container_manager.rpc.services import SERVICES
from container_manager.rpc.taking import taken_in_time
from container_manager.scheduling.streams import Streams
from container_manager.scheduling.unsent_answers import STREAM_BYTES, EndCalls, UnsentAnswers

MAX_UNSENT_BYTES = 256 * 1024 * 1024
MAX_UNSENT_HEALTH_BYTES = 64 * 1024 * 1024
_HEALTH_PREFIX = "/grpc.health.v1.Health/"

Place = Callable[[], AbstractAsyncContextManager[None]]

_UNARY = {
    f"/{service.full_name}/{method.name}": method
    for service in SERVICES.values()
    for method in service.methods
    if not method.server_streaming
}
READS = tuple(
    name for name, method in _UNARY.items() if method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS
)
"""Calls that change nothing and are no streams; most are answered from memory."""


class Places:
    """A number of places for unary calls of one kind."""

    def __init__(self, noun: str, limit: int) -> None:
        """``noun`` names the calls in a refusal, in the plural."""
        self.taken = 0
        self._noun = noun
        self._limit = limit

    def take(self) -> None:
        """Take a place. Raises :class:`CapacityExceededError` when there is none."""
        if self.taken >= self._limit:
            raise CapacityExceededError(
                f"there are {self.taken} {self._noun} under way already, the most that the server takes; "
                "try again in a moment"
            )
        self.taken += 1


class CallPlaces:
    """The places for unary calls, shared by all listeners of a server.

    Changes do not take the places of reads: statuses answer however many changes wait. Health checks take no time, and
    no place.
    """

    def __init__(self, max_calls: int, streams: Streams) -> None:
        """``max_calls`` changes and as many reads at once."""
        self.streams = streams
        self.changes = Places("changes", max_calls)
        self.reads = Places("reads", max_calls)

    @property
    def under_way(self) -> int:
        """How many calls and streams are under way that a shutdown waits for."""
        return self.changes.taken + self.reads.taken + self.streams.under_way

    def of(self, method: str) -> Places | None:
        """The places that unary calls of a method take, by its full name; ``None``: none."""
        if method not in _UNARY:
            return None
        return self.reads if method in READS else self.changes


class CallLimitInterceptor(grpc.aio.ServerInterceptor):
    """Holds a place for each call until its handler returns, and bounds the answers that are unsent then.

    The error interceptor, outside this one, answers refusals, and counts them apart.
    """

    def __init__(self, places: CallPlaces, listener: str, end_calls: EndCalls) -> None:
        self._places = places
        self._listener = listener
        # Of this listener, so that its callers hold up no others. Health checks need no token.
        self._unsent = UnsentAnswers(MAX_UNSENT_BYTES, end_calls)
        self._unsent_health = UnsentAnswers(MAX_UNSENT_HEALTH_BYTES, end_calls)
        self._wrapped = Wrapped(self._limited)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        return await self._wrapped(continuation, handler_call_details)

    def _limited(self, method: str, handler: Handler) -> Handler:
        streams = self._places.streams
        unsent = self._unsent_health if method.startswith(_HEALTH_PREFIX) else self._unsent
        kind = streams.kind(method)
        if kind is not None:
            return _limited_stream(handler, partial(_stream, partial(streams.open, kind, self._listener), unsent))
        places = self._places.of(method)
        serialize = handler.response_serializer
        is_change = places is self._places.changes

        async def limited(behavior: Any, request: Any, context: Any) -> bytes:
            # Changes are accepted however many answers to reads wait.
            if not is_change:
                unsent.check()
            if places is not None:
                places.take()
            try:
                response = await behavior(request, context)
            finally:
                if places is not None:
                    places.taken -= 1
            encoded: bytes = response if type(response) is bytes else serialize(response)
            unsent.add(len(encoded))
            return encoded

        return replace_behavior(handler, limited)


@asynccontextmanager
async def _stream(place: Place, unsent: UnsentAnswers) -> AsyncIterator[None]:
    unsent.check()
    try:
        async with place():
            yield
    finally:
        # Its last messages, and then its status.
        unsent.add(STREAM_BYTES)


def _limited_stream(handler: Handler, place: Place) -> Handler:
    if handler.stream_stream:
        return _limited_dialogue(handler, place)

    async def limited(behavior: Any, request: Any, context: Any) -> None:
        async with place():
            result = behavior(request, context)
            del request
            await result

    return replace_behavior(handler, limited)


def _limited_dialogue(handler: Handler, place: Place) -> Handler:
    """Reflection's handler is an asynchronous generator; this one is a coroutine, which ends when its call ends."""
    behavior: Callable[[AsyncIterable[Any], Any], Any] = handler.stream_stream

    async def limited(requests: AsyncIterable[Any], context: Any) -> None:
        async with place(), aclosing(behavior(requests, context)) as responses:
            async for response in responses:
                async with taken_in_time("an answer was not taken in time") as ready:
                    ready()
                    await context.write(response)

    return grpc.stream_stream_rpc_method_handler(
        limited,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
