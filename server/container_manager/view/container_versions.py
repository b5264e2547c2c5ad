"""Waits for the next change of one container."""

from __future__ import annotations

import asyncio

from container_manager.view.live_view import Entry, LiveView


class ContainerVersions:
    """The version of each container, and waiting for its next version.

    A loss of the engine counts as a change of every container, because everything that was read from it has ended.
    """

    def __init__(self, view: LiveView) -> None:
        self._view = view
        self._lost_version = 0
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        view.add_listener(self)

    def version(self, container_id: str) -> int | None:
        """The version of the container's last change; ``None`` if the container is gone."""
        entry = self._view.get(container_id)
        return None if entry is None else max(entry.version, self._lost_version)

    async def await_change(self, container_id: str, version: int) -> int | None:
        """Wait until the version differs from ``version`` and the view is in sync. ``None``: the container is gone."""
        while True:
            await self._view.regained()
            now = self.version(container_id)
            if now != version:
                return now
            waiter = asyncio.get_running_loop().create_future()
            waiting = self._waiting.setdefault(container_id, set())
            waiting.add(waiter)
            try:
                await waiter
            finally:
                waiting.discard(waiter)
                if not waiting:
                    self._waiting.pop(container_id, None)

    def changed(self, entry: Entry) -> None:
        """Called by the view."""
        self._wake(entry.status.container_id)

    def removed(self, entry: Entry, version: int) -> None:  # noqa: ARG002 - as the view calls it
        """Called by the view."""
        self._wake(entry.status.container_id)

    def lost(self, version: int) -> None:
        """Called by the view."""
        self._lost_version = version
        for container_id in list(self._waiting):
            self._wake(container_id)

    def regained(self) -> None:
        """Called by the view; :meth:`await_change` waits for this at the view itself."""

    def _wake(self, container_id: str) -> None:
        for waiter in self._waiting.get(container_id, ()):
            if not waiter.done():
                waiter.set_result(None)
