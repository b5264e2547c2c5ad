"""The images of bots' containers: which are allowed, and when they are pulled."""

from __future__ import annotations

from container_manager.backend_maintenance import OnPull
from container_manager.config import BackendConfig
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.images import ImagePuller
from container_manager.engine.long_calls import LongCalls
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import ImageNotFoundError
from container_manager.image_reference import is_image_id, requested_image
from container_manager.model import PullPolicy
from container_manager.operation import Operation


class ContainerImages:
    """Of one engine. Safe for any number of threads."""

    def __init__(self, engine: EngineClient, calls: LongCalls, config: BackendConfig) -> None:
        self._engine = engine
        self._config = config
        self._puller = ImagePuller(calls, config.registry_config)

    def allowed(self, requested: str) -> str:
        """The image that a request means. Raises the errors of a create for one that it may not have."""
        return requested_image(requested, self._config.default_image, self._config.allowed_images)

    def pulls(self, image: str, *, missing: bool) -> bool:
        """Whether to pull the image: before the create, or (``missing``) after the engine reported it missing."""
        if is_image_id(image):
            return False
        return self._config.pull_policy is (PullPolicy.MISSING if missing else PullPolicy.ALWAYS)

    def pull(self, image: str, deadline: Deadline, on_pull: OnPull | None = None) -> Operation[None]:
        """Pull an image: see :class:`~container_manager.engine.images.ImagePuller`."""
        return self._puller.pull(image, deadline, on_pull)

    def prepare(self, requested: str, deadline: Deadline, on_pull: OnPull) -> Operation[str]:
        """The id of the image that a create would take, after the pull that a create would do."""
        image = self.allowed(requested)
        is_missing = self._id(image, deadline) is None
        if self.pulls(image, missing=False) or (is_missing and self.pulls(image, missing=True)):
            yield from self.pull(image, deadline, on_pull)
        image_id = self._id(image, deadline)
        if image_id is None:
            policy = self._config.pull_policy.value
            raise ImageNotFoundError(
                f"image {image} is not on the engine, and the pull policy is {policy}", image=image
            )
        return image_id

    def pinned(self, requested: str, image_id: str, deadline: Deadline) -> str:
        """The image's name, as long as it names this image: a container is shown by it. Else its id."""
        image = requested or self._config.default_image
        return image if self._id(image, deadline) == image_id else image_id

    def _id(self, image: str, deadline: Deadline) -> str | None:
        try:
            document = self._engine.inspect_image(image, deadline)
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc
        return None if document is None else str(document["Id"])
