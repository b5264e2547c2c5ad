"""Waiting for something to happen to one container."""

from __future__ import annotations

import asyncio

from container_manager.view.live_view import Entry, LiveView


class ContainerVersions:
    """Versions of single containers, and waiting for the next one.

    A loss of the engine counts as a change of every container: whatever was being read from it has ended.
    """

    def __init__(self, view: LiveView) -> None:
        self._view = view
        self._lost_version = 0
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        view.add_listener(self)

    def version(self, container_id: str) -> int | None:
        """Of the container's last change; ``None`` when it is gone."""
        entry = self._view.get(container_id)
        return None if entry is None else max(entry.version, self._lost_version)

    async def await_change(self, container_id: str, version: int) -> int | None:
        """Its version as soon as that is another than ``version`` and the view is in sync; ``None``: it is gone."""
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
        """Called by the view; those who wait for it wait for nothing else."""

    def _wake(self, container_id: str) -> None:
        for waiter in self._waiting.get(container_id, ()):
            if not waiter.done():
                waiter.set_result(None)
