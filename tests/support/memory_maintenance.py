"""Pauses and image facts in memory: see :mod:`tests.support.memory_backend`."""

from __future__ import annotations

from container_manager.backend_maintenance import ImageFacts
from container_manager.model import ContainerState
from tests.support.memory_store import MemoryStore


class MemoryMaintenance:
    """Of the store's containers."""

    def __init__(self, store: MemoryStore) -> None:
        self.facts = ImageFacts()
        """Of every image."""
        self._store = store

    def pause(self, container_id: str) -> bool:
        return self._change("pause", container_id, ContainerState.RUNNING, ContainerState.PAUSED)

    def unpause(self, container_id: str) -> None:
        self._change("unpause", container_id, ContainerState.PAUSED, ContainerState.RUNNING)

    def image_facts(self, image_id: str) -> ImageFacts:  # noqa: ARG002 - all are alike
        return self.facts

    def _change(self, method: str, container_id: str, before: ContainerState, after: ContainerState) -> bool:
        container = self._store.containers.get(container_id)
        self._store.pass_step(method, "" if container is None else container.status.bot_id)
        self._store.check_there()
        with self._store.lock:
            if container is None or container.status.state is not before:
                return False
            self._store.set(container, state=after)
            return True
