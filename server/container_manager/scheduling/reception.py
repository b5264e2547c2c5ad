"""Bounds the requests that are being received: a sender that stops half-way costs little memory, and not for long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from container_manager.errors import CapacityExceededError, ShuttingDownError

T = TypeVar("T")

AT_ONCE = 16
"""Requests that are received at once. Others wait; each of them holds no more than its HTTP/2 window."""
LONGEST_SECONDS = 10.0
"""The longest that one request may take to arrive."""
MOST_WAITING = 1000
"""More are refused at once."""
PATIENCE_SECONDS = 0.25
"""A request that takes longer than this gives way when another one waits; the more wait, the sooner."""
_LEAST_PATIENCE_SECONDS = 0.02


class Reception:
    """Receives requests, :data:`AT_ONCE` at a time, first come, first served. For one event loop."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        # The requests being received, oldest first, each with the loop's time at its start.
        self._receiving: dict[asyncio.Timeout, float] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._reserved = 0
        self._eviction: asyncio.TimerHandle | None = None
        self._closed = False

    async def receive(self, read: Callable[[], Awaitable[T]]) -> T:
        """The result of ``read``, which waits for a request.

        Raises :class:`CapacityExceededError` when the request does not arrive in time, and
        :class:`ShuttingDownError` after :meth:`close`.
        """
        await self._enter()
        scope: asyncio.Timeout | None = None
        try:
            async with asyncio.timeout(LONGEST_SECONDS) as scope:
                self._receiving[scope] = asyncio.get_running_loop().time()
                self._evict_later()
                if self._closed:
                    raise _shutting_down()
                return await read()
        except TimeoutError:
            if self._closed:
                raise _shutting_down() from None
            raise CapacityExceededError("the request did not arrive in time; send it at once, or try again") from None
        finally:
            if scope is not None:
                self._receiving.pop(scope, None)
            self._leave()

    def close(self) -> None:
        """End the reception of every request, and refuse those that come."""
        self._closed = True
        for scope in self._receiving:
            _expire(scope)

    async def _enter(self) -> None:
        if self._reserved < self._at_once:
            self._reserved += 1
            return
        if len(self._waiting) >= MOST_WAITING:
            raise CapacityExceededError("too many requests arrive at once; try again in a moment")
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._evict_later()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._leave()
            else:
                # A place that was handed on meanwhile has passed over this one.
                with suppress(ValueError):
                    self._waiting.remove(waiter)
            raise

    def _leave(self) -> None:
        """Hand the place on to the next that waits."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._reserved -= 1

    def _patience_seconds(self) -> float:
        share = min(1.0, self._at_once / max(1, len(self._waiting)))
        return max(_LEAST_PATIENCE_SECONDS, PATIENCE_SECONDS * share)

    def _evict_later(self) -> None:
        if self._eviction is not None or not self._waiting or not self._receiving:
            return
        oldest = next(iter(self._receiving.values()))
        self._eviction = asyncio.get_running_loop().call_at(oldest + self._patience_seconds(), self._evict)

    def _evict(self) -> None:
        """End the oldest that have had their time, as many as wait."""
        self._eviction = None
        now, patience = asyncio.get_running_loop().time(), self._patience_seconds()
        expired = [scope for scope, start in self._receiving.items() if start + patience <= now]
        for scope in expired[: len(self._waiting)]:
            del self._receiving[scope]
            _expire(scope)
        self._evict_later()


def _expire(scope: asyncio.Timeout) -> None:
    """End it now, unless its own time has just ended it."""
    if not scope.expired():
        scope.reschedule(asyncio.get_running_loop().time())


def _shutting_down() -> ShuttingDownError:
    return ShuttingDownError("the service is shutting down; connect again in a moment")
