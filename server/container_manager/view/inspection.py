"""The inspections of one container that are asked for while others of it are under way."""

from __future__ import annotations

import asyncio
from contextlib import suppress

# Events come in bursts: a stop is up to five. The burst is waited for, then looked at once.
BURST_SECONDS = 0.01


class Inspection:
    """The inspections of one key, as long as they are needed: rounds, each with those who wait for it."""

    def __init__(self) -> None:
        self.touched = 0
        """The view's clock at the last touch."""
        self.task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._served: list[asyncio.Future[None]] = []

    def hurry(self) -> None:
        """Leave out the rest of the burst."""
        self._hurry.set()

    def next_round(self) -> asyncio.Future[None]:
        """Done when the next inspection to begin has ended."""
        self.hurry()
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        return waiter

    async def burst(self) -> None:
        """Wait for the rest of a burst of events, unless somebody is in a hurry."""
        if not self._hurry.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(BURST_SECONDS):
                    await self._hurry.wait()
        self._hurry.clear()

    def begin_round(self) -> None:
        """The inspection begins that those who wait by now wait for."""
        self._served, self._waiting = self._waiting, []

    def repeat_round(self) -> None:
        """It said nothing; they wait for the next one, which is to begin at once."""
        self._waiting, self._served = self._served + self._waiting, []
        self.hurry()

    def end_round(self) -> None:
        """It has been applied."""
        for waiter in self._served:
            if not waiter.done():
                waiter.set_result(None)
        self._served = []

    def end(self) -> None:
        """There will be no further round."""
        self._served += self._waiting
        self.end_round()
