"""Errors of backends that run bots on several machines, or cannot do everything."""

from __future__ import annotations

from container_manager.error_base import ContainerManagerError


class NodeUnavailableError(ContainerManagerError):
    """The bot's machine cannot be reached, so what was asked for is not certain; metadata ``node`` is its name."""

    code = "UNAVAILABLE"
    reason = "NODE_UNAVAILABLE"


class NotSupportedByBackendError(ContainerManagerError):
    """The backend cannot do this; the message says why."""

    code = "UNIMPLEMENTED"
    reason = "NOT_SUPPORTED_BY_BACKEND"
