"""Looks at containers again after a delay that doubles each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LaterLooks:
    """At most one pending look per key, on one event loop."""

    def __init__(self, touch: Callable[[str], None]) -> None:
        """``touch`` has a container or a bot inspected."""
        self._touch = touch
        self._pending: dict[str, asyncio.TimerHandle] = {}
        self._delays: dict[str, float] = {}

    def schedule(self, key: str, first_seconds: float, last_seconds: float) -> None:
        """Look after a delay: ``first_seconds``, then twice as long each time, up to ``last_seconds``."""
        delay = self._delays.get(key, first_seconds)
        self.stop(key)
        self._delays[key] = min(delay * 2, last_seconds)
        self._pending[key] = asyncio.get_running_loop().call_later(delay, self._look, key)

    def stop(self, key: str) -> None:
        """Do not look again; the next delay is the first one."""
        self._delays.pop(key, None)
        if (handle := self._pending.pop(key, None)) is not None:
            handle.cancel()

    def close(self) -> None:
        """Stop all looks."""
        for handle in self._pending.values():
            handle.cancel()
        self._pending.clear()

    def _look(self, key: str) -> None:
        self._pending.pop(key, None)
        self._touch(key)
