"""Merges requests to inspect one container while an inspection of it is in progress."""

from __future__ import annotations

import asyncio
from contextlib import suppress

# Events come in bursts: a stop causes up to five. Wait for the burst, then inspect once.
BURST_SECONDS = 0.01
# While an operation of ours changes the container, wait for its end, which the view has to show anyway. An inspection
# before that waits for the engine's lock on the container, and another one has to follow. Wait no longer than this, so
# that what others do meanwhile still shows.
CHANGE_SECONDS = 0.5


class Inspection:
    """The inspections of one key, in rounds. Each waiter waits for one round."""

    def __init__(self) -> None:
        self.touched = 0
        """The view's clock at the last touch."""
        self.name_touched = 0
        """The view's clock at the last touch that may be due to a rename."""
        self.timeouts = 0
        """How often the engine did not answer in time."""
        self.task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._served: list[asyncio.Future[None]] = []

    def touch(self, tick: int, *, hurry: bool, same_name: bool) -> None:
        """The view's clock is at ``tick``; otherwise as :meth:`Refresher.touch`."""
        self.touched = tick
        if not same_name:
            self.name_touched = tick
        if hurry:
            self.hurry()

    def hurry(self) -> None:
        """Do not wait for the rest of the burst."""
        self._hurry.set()

    def next_round(self) -> asyncio.Future[None]:
        """A future that is done when the next inspection that starts has ended."""
        self.hurry()
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        return waiter

    async def burst(self, seconds: float) -> None:
        """Wait for the rest of a burst of events, at most so long, unless :meth:`hurry` was called."""
        if not self._hurry.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._hurry.wait()
        self._hurry.clear()

    def begin_round(self) -> None:
        """Start the inspection that the current waiters wait for."""
        self._served, self._waiting = self._waiting, []

    def repeat_round(self) -> None:
        """The inspection was inconclusive: its waiters wait for the next one, which starts at once."""
        self._waiting, self._served = self._served + self._waiting, []
        self.hurry()

    def end_round(self) -> None:
        """The result has been applied: release this round's waiters."""
        for waiter in self._served:
            if not waiter.done():
                waiter.set_result(None)
        self._served = []

    def end(self) -> None:
        """Release all waiters; no round follows."""
        self._served += self._waiting
        self.end_round()
