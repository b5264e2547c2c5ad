"""The images of bots on a swarm: which are allowed, and what their registries say of them.

Nodes pull images by themselves. So that all take the same one, a service names its image with the digest that the
registry has at the create.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from http import HTTPStatus

from container_manager.config import DockerServiceConfig
from container_manager.deadline import Deadline
from container_manager.engine.pull_errors import pull_error
from container_manager.engine.registry_credentials import Credentials, RegistryConfigError, credentials_for
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    CapacityExceededError,
    EngineAccessDeniedError,
    FieldViolation,
    ImageNotFoundError,
    ImagePullFailedError,
    InvalidImageReferenceError,
)
from container_manager.image_reference import (
    check_image_allowed,
    check_image_reference,
    is_image_id,
    split_version,
)
from container_manager.model import PullPolicy
from container_manager.operation import Operation, Wait


class SwarmImages:
    """Of one swarm, for any number of threads."""

    def __init__(self, engine: SwarmClient, config: DockerServiceConfig) -> None:
        self._engine = engine
        self._config = config

    def allowed(self, requested: str) -> str:
        """The image that a request means. Raises the errors of a create for one that it may not have."""
        if not requested:
            return self._config.default_image
        check_image_reference(requested)
        if is_image_id(requested):
            violation = FieldViolation("config.image", "nodes of a swarm pull images by name; give name[:tag][@digest]")
            raise InvalidImageReferenceError(violation)
        if requested != self._config.default_image:
            check_image_allowed(requested, self._config.allowed_images)
        return requested

    def pinned(self, requested: str, digest: str) -> str:
        """The image with this digest."""
        name = (requested or self._config.default_image).partition("@")[0]
        return f"{split_version(name)[0]}@{digest}"

    def resolve(self, image: str, deadline: Deadline) -> Operation[str]:
        """The image with its digest, as its registry has it now. Raises the errors of a create for its image.

        With the pull policy ``never``, no registry is asked, and nodes take what they have.
        """
        if "@" in image or self._config.pull_policy is PullPolicy.NEVER:
            return image
        digest = yield from self._in_thread(image, deadline)
        return f"{image}@{digest}"

    def prepare(self, requested: str, deadline: Deadline) -> Operation[str]:
        """The digest of the image that a create would take."""
        image = yield from self.resolve(self.allowed(requested), deadline)
        return image.partition("@")[2]

    def credentials(self, image: str) -> str | None:
        """What nodes send to the image's registry, as the engine's ``X-Registry-Auth``. Takes as long as a helper."""
        return self._credentials(image).header()

    def _in_thread(self, image: str, deadline: Deadline) -> Operation[str]:
        """A registry, or a credential helper, may take its time, and a worker has none to wait in."""
        future: Future[str] = Future()

        def ask() -> None:
            try:
                future.set_result(self._digest(image, deadline))
            except BaseException as exc:  # noqa: BLE001 - a future carries any outcome
                future.set_exception(exc)

        try:
            threading.Thread(target=ask, name="image digest", daemon=True).start()
        except RuntimeError as exc:
            raise CapacityExceededError("the machine has no thread to spare; try again later") from exc
        while not future.done():
            yield Wait(future=future, deadline=deadline)
            if not future.done():
                deadline.check()
        return future.result()

    def _digest(self, image: str, deadline: Deadline) -> str:
        credentials = self._credentials(image)
        try:
            document = self._engine.distribution(image, credentials.header(), deadline)
        except EngineRejectedError as exc:
            if exc.status == HTTPStatus.NOT_FOUND:
                raise ImageNotFoundError(f"image {image} is not in its registry: {exc.text}", image=image) from exc
            raise pull_error(exc.text, image, exc.status, credentials.origin) from exc
        except EngineAccessDeniedError as exc:
            # The engine passes the registry's own answer on.
            raise pull_error(str(exc), image, HTTPStatus.UNAUTHORIZED, credentials.origin) from exc
        return str(document["Descriptor"]["digest"])

    def _credentials(self, image: str) -> Credentials:
        try:
            return credentials_for(image, self._config.registry_config)
        except RegistryConfigError as exc:
            raise ImagePullFailedError(f"image {image} was not asked for: {exc}", image=image) from exc
