"""Warnings that callers can cause as often as they like, and that must not fill the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_INTERVAL_SECONDS = 60.0


class RepeatedWarning:
    """Logs the first event at once, and the number of those after it at the end of each minute. For one event loop."""

    def __init__(self, warn: Callable[[int], object]) -> None:
        """``warn`` writes the line; its argument is how many events there were since the line before."""
        self._warn = warn
        self._events = 0
        self._minute: asyncio.TimerHandle | None = None

    def count(self) -> None:
        """Count an event."""
        self._events += 1
        if self._minute is None:
            self._end_minute()

    def close(self) -> None:
        """Log the events that no line has counted. There may be no further one."""
        if self._minute is not None:
            self._minute.cancel()
            self._minute = None
        self._log()

    def _end_minute(self) -> None:
        self._minute = None
        if self._log():
            self._minute = asyncio.get_running_loop().call_later(_INTERVAL_SECONDS, self._end_minute)

    def _log(self) -> bool:
        events, self._events = self._events, 0
        if events:
            self._warn(events)
        return events > 0
