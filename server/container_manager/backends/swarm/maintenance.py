"""What maintenance needs of a swarm besides the operations on bots' containers."""

from __future__ import annotations

from container_manager.backend_maintenance import ImageFacts, OnPull
from container_manager.backends.swarm.swarm_images import SwarmImages
from container_manager.deadline import Deadline
from container_manager.operation import Operation


class SwarmMaintenance:
    """A :class:`~container_manager.backend_maintenance.Maintenance`, usable from any number of threads.

    The id of an image is its digest, so that its registry has what an upgrade puts back.
    """

    def __init__(self, images: SwarmImages) -> None:
        self._images = images

    def pause(self, container_id: str) -> bool:  # noqa: ARG002 - a swarm pauses none
        return False

    def unpause(self, container_id: str) -> None:
        """Nothing is paused."""

    def prepare_image(
        self,
        image: str,
        on_pull: OnPull = lambda _: None,  # noqa: ARG002 - nodes pull, and tell nobody how far they are
    ) -> Operation[str]:
        return self._images.prepare(image, Deadline())

    def image_facts(self, image_id: str) -> ImageFacts:  # noqa: ARG002
        """Nothing: what a registry tells of an image has none of its labels."""
        return ImageFacts()
