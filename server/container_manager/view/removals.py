"""Removed containers: which inspections a removal outdates, and whether it is confirmed.

A removal event is final. An inspection that finds no container is not: under heavy load, engines have answered "not
found" for a container that existed. Such a container is inspected once more after a short delay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container

from container_manager.view.live_view import LiveView

CONFIRM_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Removals:
    """Remembers removals while an inspection that began earlier could undo them."""

    def __init__(self, view: LiveView, look: Callable[[str], None]) -> None:
        """``look`` starts the second inspection of a container that was not found."""
        self._view = view
        self._look = look
        # The view's clock at each removal, in that order.
        self._removed_at: dict[str, int] = {}
        # Containers that an inspection did not find, with the timer of the second one; ``None`` while that runs.
        self._unconfirmed: dict[str, asyncio.TimerHandle | None] = {}

    def __len__(self) -> int:
        """How many removals are remembered."""
        return len(self._removed_at.keys() | self._unconfirmed.keys())

    def announced(self, container_id: str) -> None:
        """An event announced the removal. Ids are never reused."""
        self._cancel(container_id)
        self._note(container_id)

    def not_found(self, container_id: str) -> None:
        """An inspection did not find the container."""
        if container_id in self._unconfirmed:
            if self._unconfirmed[container_id] is None:
                del self._unconfirmed[container_id]
        elif container_id not in self._removed_at:
            loop = asyncio.get_running_loop()
            self._unconfirmed[container_id] = loop.call_later(CONFIRM_SECONDS, self._look_again, container_id)
        self._note(container_id)

    def found(self, container_id: str) -> None:
        """An inspection that began after the removal has found the container."""
        self._removed_at.pop(container_id, None)
        if container_id in self._unconfirmed:
            self._cancel(container_id)
            _log.error("the engine said that container %s is gone, and has it", container_id[:12])

    def removed_at(self, container_id: str) -> int:
        """The view's clock at the last report of the removal, which outdates earlier inspections; 0 if none."""
        return self._removed_at.get(container_id, 0)

    def is_unconfirmed(self, container_id: str) -> bool:
        """Whether the second inspection is still to come."""
        return container_id in self._unconfirmed

    def forget(self, before: int, needed: Container[str]) -> None:
        """Forget removals older than ``before``, by the view's clock, up to the first that is ``needed``."""
        while self._removed_at:
            container_id, removed_at = next(iter(self._removed_at.items()))
            if removed_at >= before or container_id in needed:
                return
            del self._removed_at[container_id]

    def close(self) -> None:
        """Cancel all second inspections."""
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
