"""Spreads work over time, so that no moment of the event loop has much of it."""

from __future__ import annotations

import asyncio
from collections import deque

# uvloop's clock counts milliseconds: a timer may fire a part of one early, and one for less than that spins.
_TICK_SECONDS = 0.001


class Pace:
    """Lets at most ``per_second`` waiters go on in a second, in small steps and in the order of their arrival.

    For one event loop.
    """

    def __init__(self, per_second: int, step: int) -> None:
        """``step``: at most so many go on at once, and then none for ``step / per_second`` seconds."""
        self._step = step
        self._step_seconds = step / per_second
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        # When the present step ends, on the loop's clock, and how many may still go on in it.
        self._ends = 0.0
        self._left = 0

    async def turn(self) -> None:
        """Wait for a turn."""
        waiter = asyncio.get_running_loop().create_future()
        self.put(waiter)
        await waiter

    def put(self, waiter: asyncio.Future[None]) -> None:
        """Complete ``waiter`` when its turn comes; now, if this step has room. A cancelled one takes no turn."""
        self._waiting.append(waiter)
        if self._timer is None:
            self._go()

    def _go(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        if now >= self._ends:
            self._ends, self._left = now + self._step_seconds, self._step
        while self._waiting and self._left:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._left -= 1
        if self._waiting:
            self._timer = loop.call_at(max(self._ends, now + _TICK_SECONDS), self._go)
