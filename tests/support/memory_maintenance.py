"""Pauses and image facts in memory: see :mod:`tests.support.memory_backend`."""

from __future__ import annotations

from container_manager.backend_maintenance import ImageFacts, OnPull, Pulled
from container_manager.image_reference import check_image_allowed, check_image_reference
from container_manager.model import ContainerState
from container_manager.operation import Operation, Wait
from tests.support.memory_store import MemoryStore, image_id_of

# Of more reports than this, some are left out.
_BETWEEN_SECONDS = 0.12


class MemoryMaintenance:
    """Of the store's containers."""

    def __init__(self, store: MemoryStore, allowed_images: tuple[str, ...] = ()) -> None:
        self.allowed_images = allowed_images
        self.facts = ImageFacts()
        """Of every image."""
        self.pulled: list[Pulled] = []
        """How far each pull is, one after the other."""
        self._store = store

    def pause(self, container_id: str) -> bool:
        return self._change("pause", container_id, ContainerState.RUNNING, ContainerState.PAUSED)

    def unpause(self, container_id: str) -> None:
        self._change("unpause", container_id, ContainerState.PAUSED, ContainerState.RUNNING)

    def prepare_image(self, image: str, on_pull: OnPull = lambda _: None) -> Operation[str]:
        check_image_reference(image)
        check_image_allowed(image, self.allowed_images)
        for pulled in self.pulled:
            yield Wait(seconds=_BETWEEN_SECONDS)
            on_pull(pulled)
        self._store.pass_step("prepare_image", "")
        return image_id_of(image)

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
