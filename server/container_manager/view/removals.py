"""Containers of which the engine says that it does not have them: what that outdates, and whether it is so.

An event that tells of a removal is final. An inspection that finds none is not quite: under heavy load an engine has
denied a container that it had. So a denied one is looked at once more a little later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container

from container_manager.view.live_view import LiveView

CONFIRM_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Removals:
    """Remembers them for as long as an inspection may bring one back that began before."""

    def __init__(self, view: LiveView, look: Callable[[str], None]) -> None:
        """``look`` has a container inspected that was denied."""
        self._view = view
        self._look = look
        # By the view's clock, and so in its order.
        self._removed_at: dict[str, int] = {}
        # Denied ones, with the timer of their second look; ``None`` when that is under way.
        self._unconfirmed: dict[str, asyncio.TimerHandle | None] = {}

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._removed_at.keys() | self._unconfirmed.keys())

    def announced(self, container_id: str) -> None:
        """An event says that it is gone; ids never come back."""
        self._cancel(container_id)
        self._note(container_id)

    def not_found(self, container_id: str) -> None:
        """An inspection has not found it."""
        if container_id in self._unconfirmed:
            if self._unconfirmed[container_id] is None:
                del self._unconfirmed[container_id]
        elif container_id not in self._removed_at:
            loop = asyncio.get_running_loop()
            self._unconfirmed[container_id] = loop.call_later(CONFIRM_SECONDS, self._look_again, container_id)
        self._note(container_id)

    def found(self, container_id: str) -> None:
        """An inspection has found it that began after whatever said that it is gone."""
        self._removed_at.pop(container_id, None)
        if container_id in self._unconfirmed:
            self._cancel(container_id)
            _log.error("the engine said that container %s is gone, and has it", container_id[:12])

    def removed_at(self, container_id: str) -> int:
        """The view's clock when it was last said to be gone; what was seen before counts no more. 0: it was not."""
        return self._removed_at.get(container_id, 0)

    def is_unconfirmed(self, container_id: str) -> bool:
        """Whether it is still to be looked at once more."""
        return container_id in self._unconfirmed

    def forget(self, before: int, needed: Container[str]) -> None:
        """Forget those that were gone before this, by the view's clock, but for some that are still asked about."""
        while self._removed_at:
            container_id, removed_at = next(iter(self._removed_at.items()))
            if removed_at >= before or container_id in needed:
                return
            del self._removed_at[container_id]

    def close(self) -> None:
        """Look at none any more."""
        for container_id in list(self._unconfirmed):
            self._cancel(container_id)

    def _note(self, container_id: str) -> None:
        self._removed_at.pop(container_id, None)
        self._removed_at[container_id] = self._view.tick()

    def _look_again(self, container_id: str) -> None:
        self._unconfirmed[container_id] = None
        self._look(container_id)

    def _cancel(self, container_id: str) -> None:
        handle = self._unconfirmed.pop(container_id, None)
        if handle is not None:
            handle.cancel()
