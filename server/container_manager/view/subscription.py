"""The pending events of one watcher: at most one for each container, always with its newest state."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Collection
from enum import Enum
from typing import NamedTuple, Self

from container_manager.model import ContainerFilter
from container_manager.view.live_view import Entry, LiveView


class Kind(Enum):
    """The kinds of events."""

    SNAPSHOT = "snapshot"
    SYNCED = "synced"
    CHANGED = "changed"
    REMOVED = "removed"
    RESYNCED = "resynced"


class WatchEvent(NamedTuple):
    """One event for a watcher. ``entry`` is set if the event is about a container."""

    kind: Kind
    version: int
    entry: Entry | None = None


# The key, among container ids, of the event for a lost engine.
_ENGINE = ""


class Subscription:
    """A watcher's place in the stream of changes. Versions never decrease. A slow watcher has one event per container.

    Use in a ``with`` statement, once the view is in sync.
    """

    def __init__(self, view: LiveView, bot_ids: Collection[str] = (), labels: Collection[tuple[str, str]] = ()) -> None:
        """Of the containers of these bots, with all of these labels; empty: of all."""
        self._view = view
        self._wanted = ContainerFilter(bot_ids=frozenset(bot_ids), labels=frozenset(labels))
        self._start_version = view.version
        self._snapshot: deque[str] | None = None
        self._unseen: set[str] = set()
        self._pending: OrderedDict[str, WatchEvent] = OrderedDict()
        # Pending containers that the watcher does not know yet.
        self._new: set[str] = set()
        # For the task in next(). Only a future, since one change may wake a thousand watchers.
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        self._start_version = self._view.version
        entries = [entry for entry in self._view.entries() if self._watches(entry)]
        self._snapshot = deque(entry.status.container_id for entry in entries)
        self._unseen = set(self._snapshot)
        self._view.add_listener(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._view.discard_listener(self)

    def __len__(self) -> int:
        """How many events are pending."""
        return len(self._pending) + len(self._snapshot or ())

    async def next(self) -> WatchEvent:
        """The next event. Waits for one, and while the engine is away."""
        while True:
            if not self._view.in_sync:
                await self._view.regained()
            if self._snapshot is not None:
                return self._next_of_snapshot(self._snapshot)
            if self._pending:
                key, event = self._pending.popitem(last=False)
                self._new.discard(key)
                return event
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def changed(self, entry: Entry) -> None:
        """Called by the view."""
        key = entry.status.container_id
        # A container whose snapshot is still to come will be sent in its newest state.
        if self._watches(entry) and key not in self._unseen:
            # A container that comes back is not new to a watcher whose removal event is still pending.
            if entry.version == entry.first_version and key not in self._pending:
                self._new.add(key)
            self._put(key, WatchEvent(Kind.CHANGED, entry.version, entry))

    def removed(self, entry: Entry, version: int) -> None:
        """Called by the view."""
        key = entry.status.container_id
        if self._watches(entry):
            if key in self._unseen:
                self._unseen.discard(key)
            elif key in self._new:
                # Otherwise events of short-lived containers would accumulate for a watcher that does not read.
                self._new.discard(key)
                self._pending.pop(key, None)
            else:
                self._put(key, WatchEvent(Kind.REMOVED, version, entry))

    def lost(self, version: int) -> None:
        """Called by the view."""
        self._put(_ENGINE, WatchEvent(Kind.RESYNCED, version))

    def regained(self) -> None:
        """Called by the view; :meth:`next` waits for this at the view itself."""

    def _next_of_snapshot(self, left: deque[str]) -> WatchEvent:
        while left:
            key = left.popleft()
            entry = self._view.get(key)
            if key in self._unseen and entry is not None:
                self._unseen.discard(key)
                return WatchEvent(Kind.SNAPSHOT, self._start_version, entry)
        self._snapshot = None
        self._unseen.clear()
        return WatchEvent(Kind.SYNCED, self._start_version)

    def _put(self, key: str, event: WatchEvent) -> None:
        self._pending[key] = event
        self._pending.move_to_end(key)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _watches(self, entry: Entry) -> bool:
        return self._wanted.matches(entry.status)
