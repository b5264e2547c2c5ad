"""How many calls may be under way. More are refused at once, with words, before they take a worker or a turn.

gRPC's own bound (``maximum_concurrent_rpcs``) counts everything alike, so that waiting stops would keep out statuses
and probes, and its refusal has no reason in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio

from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager.errors import CapacityExceededError
from container_manager.rpc.interceptors.handlers import Continuation, Handler, Wrapped, replace_behavior

MAX_HEALTH_WATCHERS = 256
MAX_REFLECTIONS = 64

_MANAGER = pb.DESCRIPTOR.services_by_name["ContainerManager"]
READS = tuple(f"/{_MANAGER.full_name}/{name}" for name in ("GetContainerStatus", "ListManagedContainers"))
"""Calls that are answered from memory, as a rule."""


class Places:
    """A number of places for calls of one kind."""

    def __init__(self, what: str, most: int) -> None:
        self.taken = 0
        self._what = what
        self._most = most

    def take(self) -> None:
        """Take a place. Raises :class:`CapacityExceededError` when there is none."""
        if self.taken >= self._most:
            raise CapacityExceededError(
                f"there are {self.taken} {self._what} under way already, the most that the server takes; "
                "try again in a moment"
            )
        self.taken += 1


class CallPlaces:
    """The places of one service, whatever listeners its callers come by.

    Changes do not take the places of reads: statuses answer however many changes wait. Health checks, which take no
    time, are always answered. The observer's streams have limits of their own.
    """

    def __init__(self, max_calls: int) -> None:
        self.changes = Places("changes", max_calls)
        self.reads = Places("reads", max_calls)
        self.health_watchers = Places("watchers of health", MAX_HEALTH_WATCHERS)
        self.reflections = Places("reflections", MAX_REFLECTIONS)

    def of(self, method: str) -> Places | None:
        """The places that calls of a method take, by its full name; ``None``: none."""
        _, service, _ = method.split("/")
        if service == _MANAGER.full_name:
            return self.reads if method in READS else self.changes
        if service.startswith("grpc.reflection."):
            return self.reflections
        return self.health_watchers if method == "/grpc.health.v1.Health/Watch" else None


class CallLimitInterceptor(grpc.aio.ServerInterceptor):
    """Gives each call its place, for as long as it lasts. Inside the error interceptor, which answers for it."""

    def __init__(self, places: CallPlaces) -> None:
        self._places = places
        self._wrapped = Wrapped(self._limited)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        return await self._wrapped(continuation, handler_call_details)

    def _limited(self, method: str, handler: Handler) -> Handler:
        places = self._places.of(method)
        if places is None:
            return handler
        if handler.stream_stream:
            return _limited_dialogue(handler, places)

        async def limited(behavior: Any, request: Any, context: Any) -> Any:
            places.take()
            try:
                return await behavior(request, context)
            finally:
                places.taken -= 1

        return replace_behavior(handler, limited)


def _limited_dialogue(handler: Handler, places: Places) -> Handler:
    """Of an asynchronous generator, as reflection is; a coroutine here, which ends when its call ends."""
    behavior: Callable[[AsyncIterable[Any], Any], Any] = handler.stream_stream

    async def limited(requests: AsyncIterable[Any], context: Any) -> None:
        places.take()
        try:
            async with aclosing(behavior(requests, context)) as responses:
                async for response in responses:
                    await context.write(response)
        finally:
            places.taken -= 1

    return grpc.stream_stream_rpc_method_handler(
        limited,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
