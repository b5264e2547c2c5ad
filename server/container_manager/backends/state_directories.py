"""The state directories that creates make. A create that comes to nothing leaves none behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from container_manager.bot_directories import (
    BotUser,
    OnHost,
    RootDirectory,
    ensure_state_directory,
    remove_empty_state_directory,
    same_user,
)
from container_manager.errors import StateUnavailableError


@dataclass
class _Creates:
    """The creates of one bot that are in progress."""

    count: int = 0
    made: bool = False
    """One of them made the directory."""
    kept: bool = False
    """A container has it."""


class StateDirectories:
    """Makes the directories below one root. Safe for any number of threads, and for creates of one bot at once."""

    def __init__(self, root: RootDirectory, user: BotUser, host_user: OnHost = same_user) -> None:
        """``user``: the owner of new directories, and ``host_user`` which user of this host that is."""
        self._root = root
        self._user = user
        self._host_user = host_user
        self._lock = threading.Lock()
        self._bots: dict[str, _Creates] = {}

    @contextmanager
    def prepared(self, bot_id: str) -> Iterator[None]:
        """Make the bot's directory unless it exists; remove it again if it is new and the block raises.

        Of several creates of the bot at once, the last one removes it, if all of them have failed.
        """
        with self._lock:
            creates = self._bots.setdefault(bot_id, _Creates())
            creates.count += 1
        try:
            owner = self._host_user(self._user)
            with self._lock:
                creates.made |= ensure_state_directory(self._root, bot_id, owner)
            yield
            creates.kept = True
        finally:
            with self._lock:
                creates.count -= 1
                if not creates.count:
                    del self._bots[bot_id]
                    if creates.made and not creates.kept:
                        remove_empty_state_directory(self._root, bot_id)

    def keep(self, bot_id: str) -> None:
        """Make the directory of an existing container anew, if its create was given up; a fault shows at its start."""
        owner = self._host_user(self._user)
        with self._lock:
            with suppress(StateUnavailableError):
                ensure_state_directory(self._root, bot_id, owner)
            if bot_id in self._bots:
                self._bots[bot_id].kept = True
