"""The errors of images and their pulls. :mod:`container_manager.errors` has them too, with all others."""

from __future__ import annotations

from container_manager.error_base import ContainerManagerError


class ImageNotAllowedError(ContainerManagerError):
    """The image matches no pattern of the server's allow-list."""

    code = "PERMISSION_DENIED"
    reason = "IMAGE_NOT_ALLOWED"


class ImageNotFoundError(ContainerManagerError):
    """Neither the engine nor, if the pull policy allows a pull, the registry has the image."""

    code = "FAILED_PRECONDITION"
    reason = "IMAGE_NOT_FOUND"


class ImagePullDeniedError(ContainerManagerError):
    """The registry refused the pull."""

    code = "FAILED_PRECONDITION"
    reason = "IMAGE_PULL_DENIED"


class ImagePullFailedError(ContainerManagerError):
    """The pull failed, or its credentials could not be read; then the message names their file."""

    code = "FAILED_PRECONDITION"
    reason = "IMAGE_PULL_FAILED"


class ImageRegistryUnavailableError(ContainerManagerError):
    """The image's registry cannot be reached, or cannot serve the request now; a later pull may succeed."""

    code = "UNAVAILABLE"
    reason = "IMAGE_REGISTRY_UNAVAILABLE"
