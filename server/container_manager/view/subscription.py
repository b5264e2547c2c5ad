"""The events of watchers: at most one for each container, always with its newest state."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from enum import Enum
from typing import NamedTuple, Self

from container_manager.model import ContainerFilter
from container_manager.pace import Pace
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
# A subscription with a filter may look at thousands of containers for one event, and hundreds may do so together.
_LOOKS_AT_ONCE = 100
_STEPS_PER_SECOND, _STEPS_AT_ONCE = 5_000, 5
# So many events may be out of date before they are removed from the order.
_SLACK = 64


class ChangeLog:
    """The newest change of each container in the order of versions, kept once for all subscriptions of a view.

    A subscription remembers only the version that it has come to, and one bit for each container that it knows of.
    """

    def __init__(self, view: LiveView) -> None:
        self.view = view
        self.pace = Pace(_STEPS_PER_SECOND, _STEPS_AT_ONCE)
        """Turns of subscriptions that look for their next event."""
        self._subscriptions: set[Subscription] = set()
        # In the order of versions. The order beside it also has the places of events that newer ones have replaced.
        self._newest: dict[str, WatchEvent] = {}
        self._versions: list[int] = []
        self._keys: list[str] = []
        self._most = _SLACK
        # The number of each container that a subscription may know of.
        self._numbers: dict[str, int] = {}
        self._free: list[int] = []
        view.add_listener(self)

    def __len__(self) -> int:
        """How many places there are."""
        return len(self._keys)

    def add(self, subscription: Subscription) -> None:
        """Keep changes for it from now on."""
        self._subscriptions.add(subscription)

    def discard(self, subscription: Subscription) -> None:
        """Keep nothing for it any more."""
        self._subscriptions.discard(subscription)
        if not self._subscriptions:
            for kept in (self._newest, self._versions, self._keys, self._numbers, self._free):
                kept.clear()

    def after(self, version: int) -> Iterator[WatchEvent]:
        """The events with later versions, in order."""
        for place in range(bisect_right(self._versions, version), len(self._keys)):
            event = self._newest.get(self._keys[place])
            if event is not None and event.version == self._versions[place]:
                yield event

    def bit(self, container_id: str) -> int:
        """The container's bit in the sets of known containers."""
        number = self._numbers.get(container_id)
        if number is None:
            number = self._numbers[container_id] = self._free.pop() if self._free else len(self._numbers)
        return 1 << number

    def changed(self, entry: Entry) -> None:
        """Called by the view."""
        self._put(entry.status.container_id, WatchEvent(Kind.CHANGED, entry.version, entry))

    def removed(self, entry: Entry, version: int) -> None:
        """Called by the view."""
        self._put(entry.status.container_id, WatchEvent(Kind.REMOVED, version, entry))

    def lost(self, version: int) -> None:
        """Called by the view."""
        self._put(_ENGINE, WatchEvent(Kind.RESYNCED, version))

    def regained(self) -> None:
        """Called by the view; :meth:`Subscription.next` waits for this at the view itself."""

    def _put(self, key: str, event: WatchEvent) -> None:
        if not self._subscriptions:
            return
        self._newest.pop(key, None)
        self._newest[key] = event
        self._versions.append(event.version)
        self._keys.append(key)
        for subscription in self._subscriptions:
            subscription.wake(event)
        if len(self._keys) > self._most:
            self._compact()

    def _compact(self) -> None:
        # Without the removals that nobody is to learn of, such as of containers that lived for a moment.
        known = 0
        for subscription in self._subscriptions:
            known |= subscription.known
        for key, event in list(self._newest.items()):
            if event.kind is Kind.REMOVED and not known & self.bit(key):
                del self._newest[key]
                self._free.append(self._numbers.pop(key))
        self._keys = list(self._newest)
        self._versions = [event.version for event in self._newest.values()]
        self._most = 2 * len(self._keys) + _SLACK


class Subscription:
    """A watcher's place in the stream of changes. Versions never decrease. A slow watcher has one event per container.

    Use in a ``with`` statement, once the view is in sync.
    """

    def __init__(
        self, changes: ChangeLog, bot_ids: Collection[str] = (), labels: Collection[tuple[str, str]] = ()
    ) -> None:
        """Of the containers of these bots, with all of these labels; empty: of all."""
        self.known = 0
        """The bits of the containers whose removal the watcher is to learn of."""
        self._changes = changes
        self._view = changes.view
        self._wanted = ContainerFilter(bot_ids=frozenset(bot_ids), labels=frozenset(labels))
        self._start_version = self._version = self._view.version
        # The ids at the start, in the list's order, shared with others; None: all have been looked at.
        self._snapshot: Sequence[str] | None = ()
        self._place = 0
        # Changes after the start that the snapshot has shown already, by version.
        self._shown: set[int] = set()
        # For the task in next(). Only a future, since one change may wake a thousand watchers.
        self._waiter: asyncio.Future[WatchEvent] | None = None

    def __enter__(self) -> Self:
        self._start_version = self._version = self._view.version
        self._snapshot = self._view.order()
        self._changes.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._changes.discard(self)

    async def next(self) -> WatchEvent:
        """The next event. Waits for one, and while the engine is away."""
        while True:
            if not self._view.in_sync:
                await self._view.regained()
            if self._snapshot is None and self._version == self._view.version:
                event = await self._new_event()
                if self._view.in_sync and self._view.version == event.version:
                    return self._taken(event)
                continue
            found = self._next_change() if self._snapshot is None else self._next_of_snapshot(self._snapshot)
            if found is not None:
                return found
            await self._changes.pace.turn()

    async def _new_event(self) -> WatchEvent:
        self._shown.clear()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def wake(self, event: WatchEvent) -> None:
        """Called with each new event. One that is waiting has seen all events before."""
        if self._waiter is None or self._waiter.done():
            return
        if self._is_for_watcher(event):
            self._waiter.set_result(event)
        else:
            self._version = event.version

    def _next_of_snapshot(self, containers: Sequence[str]) -> WatchEvent | None:
        """The next event among a number of containers; ``None``: there is none, and more containers are left."""
        for place in range(self._place, min(self._place + _LOOKS_AT_ONCE, len(containers))):
            self._place = place + 1
            key = containers[place]
            entry = self._view.get(key)
            if entry is not None and self._wanted.matches(entry.status):
                self.known |= self._changes.bit(key)
                if entry.version > self._start_version:
                    self._shown.add(entry.version)
                return WatchEvent(Kind.SNAPSHOT, self._start_version, entry)
        if self._place < len(containers):
            return None
        self._snapshot = None
        return WatchEvent(Kind.SYNCED, self._start_version)

    def _next_change(self) -> WatchEvent | None:
        """The next event among a number of changes; ``None``: there is none."""
        for looks, event in enumerate(self._changes.after(self._version)):
            if looks == _LOOKS_AT_ONCE:
                return None
            if self._is_for_watcher(event):
                return self._taken(event)
            self._version = event.version
        self._version = self._view.version
        return None

    def _taken(self, event: WatchEvent) -> WatchEvent:
        self._version = event.version
        if event.entry is not None:
            bit = self._changes.bit(event.entry.status.container_id)
            self.known = self.known & ~bit if event.kind is Kind.REMOVED else self.known | bit
        return event

    def _is_for_watcher(self, event: WatchEvent) -> bool:
        if event.entry is None:
            return True
        if event.kind is Kind.REMOVED:
            return bool(self.known & self._changes.bit(event.entry.status.container_id))
        return event.version not in self._shown and self._wanted.matches(event.entry.status)
