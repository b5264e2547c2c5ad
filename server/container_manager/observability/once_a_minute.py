"""Limits warnings that others cause, as often as they like, to one a minute."""

from __future__ import annotations

import time

_INTERVAL_SECONDS = 60.0


class OnceAMinute:
    """Decides which of many events has a line in the log."""

    def __init__(self) -> None:
        self._told = float("-inf")
        self._events = 0

    def count(self) -> int:
        """Counts an event. Returns how many there were since the last line if another line is due, otherwise 0."""
        self._events += 1
        now = time.monotonic()
        if now - self._told < _INTERVAL_SECONDS:
            return 0
        self._told = now
        events, self._events = self._events, 0
        return events
