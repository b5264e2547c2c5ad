"""The streams that are open: how many of each kind there may be, and their end when the service shuts down."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from container_manager.config import ServerConfig
from container_manager.errors import CapacityExceededError, ShuttingDownError

_LAST_MESSAGE_SECONDS = 0.5


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
    """A shutdown waits for the end of these streams, as for other calls. False: it ends them at once."""
    notifies_shutdown: bool = False
    """At a shutdown the stream stays open for a moment longer: its last message tells of it."""


class Streams:
    """Counts streams by kind, and ends them at :meth:`close`."""

    def __init__(self, limits: Mapping[StreamKind, int]) -> None:
        self._limits = limits
        self._kinds = {method: kind for kind in limits for method in kind.methods}
        # By kind, and by listener for the kinds with a limit for each.
        self._counts: Counter[tuple[StreamKind, str]] = Counter()
        self._scopes: dict[asyncio.Timeout, StreamKind] = {}
        self._closing = False

    def kind(self, method: str) -> StreamKind | None:
        """The kind of an RPC, by its full name; ``None``: its calls are no streams."""
        return self._kinds.get(method)

    def count(self, kind: StreamKind) -> int:
        """How many streams of this kind are open."""
        return sum(count for (counted, _), count in self._counts.items() if counted is kind)

    @property
    def under_way(self) -> int:
        """How many streams are open that a shutdown waits for."""
        return sum(count for (kind, _), count in self._counts.items() if kind.until_drained)

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
                    self._scopes[scope] = kind
                yield
        except TimeoutError:
            if scope is not None and scope.expired():
                raise ShuttingDownError from None
            raise
        finally:
            self._counts[key] -= 1
            if scope is not None:
                self._scopes.pop(scope, None)

    def close(self) -> None:
        """End every stream, and refuse new ones; those that a shutdown waits for are left alone."""
        self._closing = True
        now = asyncio.get_running_loop().time()
        for scope, kind in self._scopes.items():
            scope.reschedule(now + (_LAST_MESSAGE_SECONDS if kind.notifies_shutdown else 0.0))
