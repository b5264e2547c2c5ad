"""The streams that are open: how many there may be, and their end when the service ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import Enum

from container_manager.errors import CapacityExceededError, ShuttingDownError


class StreamKind(Enum):
    """What a stream is of, in words."""

    CONTAINERS = "watchers of containers"
    LOGS = "log streams"
    STATS = "watchers of stats"


class Streams:
    """Counts streams by kind, and ends them all at :meth:`close`."""

    def __init__(self, limits: Mapping[StreamKind, int]) -> None:
        self._limits = limits
        self._counts: Counter[StreamKind] = Counter()
        self._scopes: set[asyncio.Timeout] = set()
        self._closing = False

    def count(self, kind: StreamKind) -> int:
        """How many of this kind are open."""
        return self._counts[kind]

    @asynccontextmanager
    async def open(self, kind: StreamKind) -> AsyncIterator[None]:
        """Hold a place for a stream, whose whole life is inside.

        Raises :class:`CapacityExceededError` at once when there is none, and :class:`ShuttingDownError` inside, at
        whatever the stream is waiting for, when the service ends.
        """
        if self._closing:
            raise _shutting_down()
        if self._counts[kind] >= self._limits[kind]:
            raise CapacityExceededError(
                f"there are {self._counts[kind]} {kind.value} already, the most that the server takes; close some"
            )
        self._counts[kind] += 1
        scope: asyncio.Timeout | None = None
        try:
            async with asyncio.timeout(None) as scope:
                self._scopes.add(scope)
                yield
        except TimeoutError:
            if scope is not None and scope.expired():
                raise _shutting_down() from None
            raise
        finally:
            self._counts[kind] -= 1
            if scope is not None:
                self._scopes.discard(scope)

    def close(self) -> None:
        """End every stream, and refuse new ones."""
        self._closing = True
        now = asyncio.get_running_loop().time()
        for scope in self._scopes:
            scope.reschedule(now)


def _shutting_down() -> ShuttingDownError:
    return ShuttingDownError("the service is shutting down; connect again in a moment")
