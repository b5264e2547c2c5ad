"""Reads statuses from the engine's inspect documents, with what a document does not tell by itself.

That is how the run before ended (:mod:`container_manager.backends.docker.run_ends`), and which labels are the caller's
own: the engine adds the image's labels to a container's. The labels of an image, by its id, never change, so each image
is asked for once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from container_manager.backends.docker.run_ends import RunEnds
from container_manager.backends.docker.status import may_have_labels, status_from_inspect
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.model import ContainerStatus

Json = dict[str, Any]

# With more images, those that were read first are asked for again.
_MAX_IMAGES = 10_000


class StatusReader:
    """Used by all that read one engine, from any thread."""

    def __init__(self) -> None:
        self.ends = RunEnds()
        self._image_labels: dict[str, Mapping[str, str]] = {}

    def unknown_image(self, document: Json) -> str:
        """The id of the image that has to be learned before :meth:`status` can read the document; empty if none."""
        image_id: str = document["Image"]
        return image_id if may_have_labels(document) and image_id not in self._image_labels else ""

    def learn(self, image_id: str, image: Json | None) -> None:
        """Take over an image's inspect document; ``None`` if the engine has the image no more."""
        while len(self._image_labels) >= _MAX_IMAGES:
            self._image_labels.pop(next(iter(self._image_labels), ""), None)
        self._image_labels[image_id] = ((image or {}).get("Config") or {}).get("Labels") or {}

    def status(self, document: Json) -> ContainerStatus:
        """The status from ``GET /containers/{id}/json``. Its labels may be the image's while that is unknown."""
        status = self.ends.with_reason(status_from_inspect(document, self._image_labels.get(document["Image"])))
        last_exit = self.ends.last_exit(status, document)
        return status if last_exit is None else replace(status, last_exit=last_exit)

    def read(self, engine: EngineClient, document: Json, deadline: Deadline) -> ContainerStatus:
        """The same, after learning the image if need be. Raises one of the ``Engine…Error`` kinds."""
        if image_id := self.unknown_image(document):
            try:
                self.learn(image_id, engine.inspect_image(image_id, deadline))
            except EngineRejectedError as exc:
                raise engine_error(exc) from exc
        return self.status(document)
