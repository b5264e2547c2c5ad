"""The state of every managed container, whether it is trustworthy, and the listeners for changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from container_manager.model import ContainerState, ContainerStatus, age
from container_manager.validation import is_bot_id


@dataclass(slots=True)
class Entry:
    """One container."""

    status: ContainerStatus
    encoded: bytes
    """The status in its wire form, encoded once for all readers."""
    bot: str | None
    """The bot that owns this container; ``None`` for an orphan."""
    version: int
    """Version of the container's last change."""
    first_version: int
    """Version at which the container appeared."""
    partial: bool
    """The engine cannot inspect it; the status holds only what the engine's list contains."""
    began: int
    """The view's clock at the start of the inspection that gave this status."""
    applied: int
    """The view's clock when the status was applied."""
    former: int = 0
    """The view's clock at the start of the last inspection that found the previous status; 0 if there was none."""


class Listener(Protocol):
    """Receives changes as they are applied. Must not block, nor change the view."""

    def changed(self, entry: Entry) -> None:
        """A container is new or has changed."""

    def removed(self, entry: Entry, version: int) -> None:
        """A container is gone."""

    def lost(self, version: int) -> None:
        """Changes may be missed from now on, until :meth:`regained`."""

    def regained(self) -> None:
        """The view is current again, and the listener has received all missed changes."""


class LiveView:
    """The containers, by id and by bot.

    Reads may use it while :attr:`in_sync`, and for one bot while :meth:`answers_for` it. Versions start from the wall
    clock in microseconds, so they also increase across restarts of the service.
    """

    def __init__(
        self, encode: Callable[[ContainerStatus], bytes], owned_bot: Callable[[ContainerStatus], str | None]
    ) -> None:
        self._encode = encode
        self._owned_bot = owned_bot
        self._entries: dict[str, Entry] = {}
        self._by_bot: dict[str, str] = {}
        # Containers that were made for a bot and have another name, by the bot.
        self._misnamed: dict[str, set[str]] = {}
        self._order: list[str] | None = None
        self._listeners: set[Listener] = set()
        self._regained = asyncio.Event()
        self._clock = 0
        self.version = time.time_ns() // 1000
        self.drift = 0
        """How many differences the audit has found."""
        self.in_sync = False
        """The view follows the engine's events and knows everything before them, so it may answer."""
        self.doubts: set[str] = set()
        """Container and bot ids whose inspection failed."""

    def __len__(self) -> int:
        """How many containers there are."""
        return len(self._entries)

    def __contains__(self, container_id: str) -> bool:
        return container_id in self._entries

    def get(self, container_id: str) -> Entry | None:
        """A container."""
        return self._entries.get(container_id)

    def of_bot(self, bot_id: str) -> Entry | None:
        """The bot's container: the one that it owns, else the newest that was made for it and has another name."""
        container_id = self._by_bot.get(bot_id)
        if container_id is not None:
            return self._entries[container_id]
        misnamed = [self._entries[key] for key in self._misnamed.get(bot_id, ())]
        return max(misnamed, key=lambda entry: age(entry.status), default=None)

    def answers_for(self, bot_id: str) -> bool:
        """Whether :meth:`of_bot` is trustworthy for this bot."""
        if not self.in_sync or bot_id in self.doubts:
            return False
        container_id = self._by_bot.get(bot_id)
        if container_id is not None:
            return self._is_certain(container_id)
        # An unknown container that could not be inspected may be this bot's.
        if not all(key in self._entries or is_bot_id(key) for key in self.doubts):
            return False
        # Any of these may have been renamed to the bot's name.
        return all(map(self._is_certain, self._misnamed.get(bot_id, ())))

    @property
    def answers_for_all(self) -> bool:
        """Whether :meth:`entries` is trustworthy. It contains a container that cannot be inspected as its list row."""
        return self.in_sync and all((entry := self.get(key)) is not None and entry.partial for key in self.doubts)

    def entries(self, states: Collection[ContainerState] = ()) -> list[Entry]:
        """All containers in one of ``states`` (empty: any state), by create time, then id."""
        found = (self._entries[key] for key in self.order())
        return [entry for entry in found if not states or entry.status.state in states]

    def order(self) -> Sequence[str]:
        """The ids of all containers in the order of :meth:`entries`. Later changes make another sequence."""
        if self._order is None:
            self._order = sorted(self._entries, key=lambda key: (self._entries[key].status.create_time_ns or 0, key))
        return self._order

    def ids(self) -> set[str]:
        """The ids of all containers."""
        return set(self._entries)

    def tick(self) -> int:
        """Advance the view's clock, which orders starts and applications of inspections; its new value."""
        self._clock += 1
        return self._clock

    def apply(self, status: ContainerStatus, began: int, *, partial: bool = False) -> bool:
        """Apply the result of an inspection that began at ``began``. False: it may be out of date, inspect again.

        When two inspections overlap, nothing shows which one saw the later state.
        """
        key = status.container_id
        before = self._entries.get(key)
        if before is not None and began < before.applied:
            return False
        if before is not None and before.status == status:
            before.began, before.applied, before.partial = began, self.tick(), partial
            self._claim(before)
            return True
        self.version += 1
        bot = self._owned_bot(status)
        first = self.version if before is None else before.first_version
        former = 0 if before is None else before.began
        entry = Entry(status, self._encode(status), bot, self.version, first, partial, began, self.tick(), former)
        self._entries[key] = entry
        if before is None or before.status.create_time_ns != status.create_time_ns:
            self._order = None
        if before is not None and (before.bot, before.status.bot_id) != (bot, status.bot_id):
            self._release(before)
        self._claim(entry)
        for listener in self._listeners:
            listener.changed(entry)
        return True

    def remove(self, container_id: str) -> None:
        """Forget a container that no longer exists."""
        self.doubts.discard(container_id)
        entry = self._entries.pop(container_id, None)
        if entry is None:
            return
        self.version += 1
        self._order = None
        self._release(entry)
        for listener in self._listeners:
            listener.removed(entry, self.version)

    def lose(self) -> None:
        """The connection to the engine's events is lost; changes may be missed from now on."""
        if not self.in_sync:
            return
        self.in_sync = False
        self._regained.clear()
        self.version += 1
        for listener in self._listeners:
            listener.lost(self.version)

    def regain(self) -> None:
        """All missed changes have been applied."""
        self.in_sync = True
        self._regained.set()
        for listener in self._listeners:
            listener.regained()

    async def regained(self) -> None:
        """Wait until the view is in sync."""
        # Sync may be lost again before a woken waiter runs.
        while not self.in_sync:
            await self._regained.wait()

    def add_listener(self, listener: Listener) -> None:
        """Call ``listener`` for every change from now on."""
        self._listeners.add(listener)

    def discard_listener(self, listener: Listener) -> None:
        """Stop calling the listener."""
        self._listeners.discard(listener)

    def _claim(self, entry: Entry) -> None:
        """If two containers have had a bot's name, the bot owns the one that was seen later."""
        status = entry.status
        if entry.bot is None:
            if status.bot_id:
                self._misnamed.setdefault(status.bot_id, set()).add(status.container_id)
            return
        holder = self._by_bot.get(entry.bot)
        if holder is None or self._entries[holder].began <= entry.began:
            self._by_bot[entry.bot] = status.container_id

    def _release(self, entry: Entry) -> None:
        container_id, bot_id = entry.status.container_id, entry.status.bot_id
        if entry.bot is not None and self._by_bot.get(entry.bot) == container_id:
            del self._by_bot[entry.bot]
        if container_id in (misnamed := self._misnamed.get(bot_id, set())):
            misnamed.discard(container_id)
            if not misnamed:
                del self._misnamed[bot_id]

    def _is_certain(self, container_id: str) -> bool:
        return not self._entries[container_id].partial and container_id not in self.doubts
