"""What maintenance needs of one engine besides the operations on bots' containers."""

from __future__ import annotations

from container_manager.backend import CallObserver
from container_manager.backend_maintenance import ImageFacts, OnPull
from container_manager.backends.docker.container_images import ContainerImages
from container_manager.config import BackendConfig
from container_manager.deadline import Deadline
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.maintenance import MaintenanceClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.operation import Operation

DERIVED_LABEL = "botmaker.derived-state"
"""Of an image: paths below the state that its programs make anew, separated by commas."""


class DockerMaintenance:
    """A :class:`~container_manager.backend_maintenance.Maintenance`, usable from any number of threads."""

    def __init__(self, config: BackendConfig, images: ContainerImages, observer: CallObserver | None = None) -> None:
        """``observer`` receives each call to the engine."""
        self._images = images
        self._engine = MaintenanceClient(
            config.docker_host, timeout_seconds=config.engine_timeout_seconds, observer=observer
        )

    def close(self) -> None:
        """Close idle connections to the engine. No method may be called afterwards."""
        self._engine.close()

    def pause(self, container_id: str) -> bool:
        try:
            return self._engine.pause_container(container_id)
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc

    def unpause(self, container_id: str) -> None:
        try:
            self._engine.unpause_container(container_id)
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc

    def prepare_image(self, image: str, on_pull: OnPull = lambda _: None) -> Operation[str]:
        return self._images.prepare(image, Deadline(), on_pull)

    def image_facts(self, image_id: str) -> ImageFacts:
        try:
            document = self._engine.inspect_image(image_id, Deadline())
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc
        if document is None:
            return ImageFacts()
        labels = (document.get("Config") or {}).get("Labels") or {}
        paths = (path.strip().strip("/") for path in labels.get(DERIVED_LABEL, "").split(","))
        return ImageFacts(tuple(document.get("RepoDigests") or ()), tuple(path for path in paths if path))
