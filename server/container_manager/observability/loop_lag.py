"""Measures how late the event loop is: everything that the service answers waits that long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

INTERVAL_SECONDS = 0.1


class LoopLag:
    """Measures from :meth:`start` to :meth:`stop`, on one event loop."""

    def __init__(self, report: Callable[[float], None]) -> None:
        """``report`` receives, every 100 ms, by how many seconds a timer of the loop was late."""
        self._report = report
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(due := loop.time() + INTERVAL_SECONDS, self._measure, due)

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _measure(self, due: float) -> None:
        self._report(max(0.0, asyncio.get_running_loop().time() - due))
        self.start()
