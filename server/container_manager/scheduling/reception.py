"""Bounds the requests that are being received: a sender that stops half-way costs little memory, and not for long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

from container_manager.errors import CapacityExceededError, ShuttingDownError
from container_manager.scheduling.earliest_timer import EarliestTimer

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
_TICK_SECONDS = 0.001


class Reception:
    """Receives requests, :data:`AT_ONCE` at a time, first come, first served. For one event loop."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        # The tasks that receive a request, oldest first, each with the loop's time at its start.
        self._receiving: dict[asyncio.Task[Any], float] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._reserved = 0
        # asyncio.timeout around each request would cost every call 3 % of its time.
        self._timer = EarliestTimer(self._end_overdue)
        self._closed = False

    async def receive(self, read: Callable[[], Awaitable[T]]) -> T:
        """The result of ``read``, which waits for a request.

        Raises :class:`CapacityExceededError` when the request does not arrive in time, and
        :class:`ShuttingDownError` after :meth:`close`.
        """
        if self._reserved < self._at_once:
            self._reserved += 1
        else:
            await self._wait_for_place()
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        try:
            if self._closed:
                raise ShuttingDownError
            self._receiving[task] = asyncio.get_running_loop().time()
            if not self._timer.is_set or self._waiting:
                self._set_timer()
            return await read()
        except asyncio.CancelledError:
            # Uncancel as asyncio.timeout does: the caller may have cancelled the call at the same moment.
            if task in self._receiving or task.uncancel():
                raise
            if self._closed:
                raise ShuttingDownError from None
            raise CapacityExceededError("the request did not arrive in time; send it at once, or try again") from None
        finally:
            self._receiving.pop(task, None)
            self._leave()

    def close(self) -> None:
        """End the reception of every request, and refuse those that come."""
        self._closed = True
        for task in list(self._receiving):
            self._expire(task)

    async def _wait_for_place(self) -> None:
        if len(self._waiting) >= MOST_WAITING:
            raise CapacityExceededError("too many requests arrive at once; try again in a moment")
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._set_timer()
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

    def _longest_seconds(self) -> float:
        if not self._waiting:
            return LONGEST_SECONDS
        return max(_LEAST_PATIENCE_SECONDS, PATIENCE_SECONDS * min(1.0, self._at_once / len(self._waiting)))

    def _set_timer(self) -> None:
        """Have the timer fire when the oldest request has had its time, or earlier."""
        if self._receiving:
            self._timer.set(next(iter(self._receiving.values())) + self._longest_seconds())

    def _end_overdue(self) -> None:
        """End those that have had their time, oldest first; while others wait, only as many as wait."""
        # A timer may fire a clock tick early.
        latest_start = asyncio.get_running_loop().time() - self._longest_seconds() + _TICK_SECONDS
        overdue = [task for task, start in self._receiving.items() if start <= latest_start]
        for task in overdue[: len(self._waiting) or None]:
            self._expire(task)
        self._set_timer()

    def _expire(self, task: asyncio.Task[Any]) -> None:
        del self._receiving[task]
        task.cancel()
