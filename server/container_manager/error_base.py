"""What all errors of the service have in common. :mod:`container_manager.errors` has them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

ERROR_DOMAIN = "container.botmaker"


@dataclass(frozen=True)
class FieldViolation:
    """An invalid field: its path in the request (``config.ports[0].container_port``) and what is wrong with it."""

    field: str
    description: str


class ContainerManagerError(Exception):
    """A failure with a contract code and reason. ``str()`` is a message that a person can act on."""

    code: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "INTERNAL_ERROR"
    start_sent = False
    """The backend was asked to start the bot before this error, which says nothing of that start's outcome."""

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.metadata: dict[str, str] = metadata


def reason_of(error: BaseException) -> str:
    """What the log says of an error: its reason or its type's name. The text may be the engine's or a caller's."""
    return error.reason if isinstance(error, ContainerManagerError) else type(error).__name__
