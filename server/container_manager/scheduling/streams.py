"""The streams that are open: how many of each kind there may be, and their end when the service shuts down."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from container_manager.config import ServerConfig
from container_manager.errors import CapacityExceededError, ShuttingDownError


@dataclass(frozen=True)
class StreamKind:
    """All that the service knows of one kind of stream."""

    label: str
    """The value of ``kind`` in metrics."""
    noun: str
    """What these streams are called in a refusal, in the plural."""
    methods: tuple[str, ...]
    """The full names of the RPCs whose calls are such streams."""
    limit: Callable[[ServerConfig], int]
    """How many may be open at once."""
    per_listener: bool = False
    """The limit holds for each listener, since anybody may open such streams. False: for all listeners together."""
    until_drained: bool = False
    """At a shutdown the stream stays open while calls under way are drained. False: it ends at once."""


class Streams:
    """Counts streams by kind, and ends them at :meth:`close`."""

    def __init__(self, limits: Mapping[StreamKind, int]) -> None:
        self._limits = limits
        self._kinds = {method: kind for kind in limits for method in kind.methods}
        # By kind, and by listener for the kinds with a limit for each.
        self._counts: Counter[tuple[StreamKind, str]] = Counter()
        self._scopes: set[asyncio.Timeout] = set()
        self._closing = False

    def kind(self, method: str) -> StreamKind | None:
        """The kind of an RPC, by its full name; ``None``: its calls are no streams."""
        return self._kinds.get(method)

    def count(self, kind: StreamKind) -> int:
        """How many streams of this kind are open."""
        return sum(count for (counted, _), count in self._counts.items() if counted is kind)

    def counts(self) -> dict[str, int]:
        """How many are open, by each kind's label."""
        return {kind.label: self.count(kind) for kind in self._limits}

    @asynccontextmanager
    async def open(self, kind: StreamKind, listener: str = "") -> AsyncIterator[None]:
        """Hold a place for a stream on a listener, whose whole life is inside.

        Raises :class:`CapacityExceededError` at once when there is none. When the service shuts down, raises
        :class:`ShuttingDownError` inside, at whatever the stream is waiting for.
        """
        if self._closing and not kind.until_drained:
            raise ShuttingDownError
        key = (kind, listener if kind.per_listener else "")
        if self._counts[key] >= self._limits[kind]:
            raise CapacityExceededError(
                f"there are {self._counts[key]} {kind.noun} already, the most that the server takes; close some"
            )
        self._counts[key] += 1
        scope: asyncio.Timeout | None = None
        try:
            async with asyncio.timeout(None) as scope:
                if not kind.until_drained:
                    self._scopes.add(scope)
                yield
        except TimeoutError:
            if scope is not None and scope.expired():
                raise ShuttingDownError from None
            raise
        finally:
            self._counts[key] -= 1
            if scope is not None:
                self._scopes.discard(scope)

    def close(self) -> None:
        """End every stream, and refuse new ones; those that stay until the drain ends are left alone."""
        self._closing = True
        now = asyncio.get_running_loop().time()
        for scope in self._scopes:
            scope.reschedule(now)
