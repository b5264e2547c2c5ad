"""The errors of the service, each with its code and reason on the wire.

    ContainerManagerError
    ├── InvalidArgumentError            INVALID_ARGUMENT
    │   ├── InvalidBotIdError               INVALID_BOT_ID
    │   ├── InvalidConfigError              INVALID_CONFIG
    │   └── InvalidImageReferenceError      INVALID_IMAGE_REFERENCE
    ├── ContainerNotFoundError          NOT_FOUND            CONTAINER_NOT_FOUND
    ├── ContainerAlreadyExistsError     ALREADY_EXISTS       CONTAINER_ALREADY_EXISTS
    ├── NameInUseUnmanagedError         FAILED_PRECONDITION  NAME_IN_USE_UNMANAGED
    ├── ContainerNameMismatchError      FAILED_PRECONDITION  CONTAINER_NAME_MISMATCH
    ├── SecretsUnavailableError         FAILED_PRECONDITION  SECRETS_UNAVAILABLE
    ├── StateUnavailableError           FAILED_PRECONDITION  STATE_UNAVAILABLE
    ├── SecretsReloadFailedError        FAILED_PRECONDITION  SECRETS_RELOAD_FAILED
    ├── BackupNotFoundError             NOT_FOUND            BACKUP_NOT_FOUND
    ├── BackupCorruptError              DATA_LOSS            BACKUP_CORRUPT
    ├── BackupUnavailableError          FAILED_PRECONDITION  BACKUP_UNAVAILABLE
    ├── UpgradeRolledBackError          FAILED_PRECONDITION  UPGRADE_ROLLED_BACK
    ├── RollbackFailedError             FAILED_PRECONDITION  ROLLBACK_FAILED
    ├── ActionNotAllowedError           PERMISSION_DENIED    ACTION_NOT_ALLOWED
    ├── ConfigNotReproducibleError      FAILED_PRECONDITION  CONFIG_NOT_REPRODUCIBLE
    ├── ImageNotAllowedError            PERMISSION_DENIED    IMAGE_NOT_ALLOWED
    ├── ImageNotFoundError              FAILED_PRECONDITION  IMAGE_NOT_FOUND
    ├── ImagePullDeniedError            FAILED_PRECONDITION  IMAGE_PULL_DENIED
    ├── ImagePullFailedError            FAILED_PRECONDITION  IMAGE_PULL_FAILED
    ├── ImageRegistryUnavailableError   UNAVAILABLE          IMAGE_REGISTRY_UNAVAILABLE
    ├── StartFailedError                FAILED_PRECONDITION  START_FAILED
    │   ├── CommandNotFoundError                             COMMAND_NOT_FOUND
    │   ├── CommandNotExecutableError                        COMMAND_NOT_EXECUTABLE
    │   └── PortInUseError                                   PORT_IN_USE
    ├── InvalidStateError               FAILED_PRECONDITION  INVALID_STATE
    ├── OperationInProgressError        ABORTED              OPERATION_IN_PROGRESS
    ├── OperationCancelledError         CANCELLED            OPERATION_CANCELLED
    ├── EngineUnavailableError          UNAVAILABLE          ENGINE_UNAVAILABLE
    ├── EngineAccessDeniedError         FAILED_PRECONDITION  ENGINE_ACCESS_DENIED
    ├── EngineTimeoutError              DEADLINE_EXCEEDED    ENGINE_TIMEOUT
    ├── NodeUnavailableError            UNAVAILABLE          NODE_UNAVAILABLE
    ├── ShuttingDownError               UNAVAILABLE          SHUTTING_DOWN
    ├── CapacityExceededError           RESOURCE_EXHAUSTED   CAPACITY_EXCEEDED
    ├── StateTooLargeError              RESOURCE_EXHAUSTED   CAPACITY_EXCEEDED
    ├── UnauthenticatedError            UNAUTHENTICATED      UNAUTHENTICATED
    ├── ServiceNotAllowedError          PERMISSION_DENIED    SERVICE_NOT_ALLOWED
    ├── NotSupportedByBackendError      UNIMPLEMENTED        NOT_SUPPORTED_BY_BACKEND
    └── InternalError                   INTERNAL             INTERNAL_ERROR

    StartupError                    never on the wire: the service refuses to start

Codes are names of google.rpc.Code, so that this module does not depend on gRPC.
"""

from __future__ import annotations

from container_manager.error_base import ERROR_DOMAIN as ERROR_DOMAIN
from container_manager.error_base import ContainerManagerError as ContainerManagerError
from container_manager.error_base import FieldViolation as FieldViolation
from container_manager.error_base import reason_of as reason_of
from container_manager.errors_backend import NodeUnavailableError as NodeUnavailableError
from container_manager.errors_backend import NotSupportedByBackendError as NotSupportedByBackendError
from container_manager.errors_images import ImageNotAllowedError as ImageNotAllowedError
from container_manager.errors_images import ImageNotFoundError as ImageNotFoundError
from container_manager.errors_images import ImagePullDeniedError as ImagePullDeniedError
from container_manager.errors_images import ImagePullFailedError as ImagePullFailedError
from container_manager.errors_images import ImageRegistryUnavailableError as ImageRegistryUnavailableError
from container_manager.errors_maintenance import ActionNotAllowedError as ActionNotAllowedError
from container_manager.errors_maintenance import BackupCorruptError as BackupCorruptError
from container_manager.errors_maintenance import BackupNotFoundError as BackupNotFoundError
from container_manager.errors_maintenance import BackupUnavailableError as BackupUnavailableError
from container_manager.errors_maintenance import InternalError as InternalError
from container_manager.errors_maintenance import RollbackFailedError as RollbackFailedError
from container_manager.errors_maintenance import StateTooLargeError as StateTooLargeError
from container_manager.errors_maintenance import UpgradeRolledBackError as UpgradeRolledBackError


class InvalidArgumentError(ContainerManagerError):
    """The request itself is wrong; nothing was changed."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_CONFIG"

    def __init__(self, *violations: FieldViolation) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = violations


class InvalidBotIdError(InvalidArgumentError):
    """The bot id is not a canonical UUID."""

    reason = "INVALID_BOT_ID"


class InvalidConfigError(InvalidArgumentError):
    """A field other than the bot id or the image is wrong."""


class InvalidImageReferenceError(InvalidArgumentError):
    """The image reference does not follow the reference grammar."""

    reason = "INVALID_IMAGE_REFERENCE"


class ContainerNotFoundError(ContainerManagerError):
    """The bot has no container."""

    code = "NOT_FOUND"
    reason = "CONTAINER_NOT_FOUND"


class ContainerAlreadyExistsError(ContainerManagerError):
    """The bot has a container; metadata ``container_id`` is its id."""

    code = "ALREADY_EXISTS"
    reason = "CONTAINER_ALREADY_EXISTS"


class NameInUseUnmanagedError(ContainerManagerError):
    """A container without the service's labels has the name of the bot's container."""

    code = "FAILED_PRECONDITION"
    reason = "NAME_IN_USE_UNMANAGED"


class ContainerNameMismatchError(ContainerManagerError):
    """The bot's only container has another name than the service gives; metadata ``container_id`` and ``name``."""

    code = "FAILED_PRECONDITION"
    reason = "CONTAINER_NAME_MISMATCH"

    @classmethod
    def of(cls, bot_id: str, container_id: str, name: str) -> ContainerNameMismatchError:
        """The error about this container."""
        message = f"the bot's container is named {name}; the operator renames it with: container-manager adopt"
        return cls(message, bot_id=bot_id, container_id=container_id, name=name)


class SecretsUnavailableError(ContainerManagerError):
    """The bot's secrets directory is missing, a symlink or not a directory, or no user of the bot could read it."""

    code = "FAILED_PRECONDITION"
    reason = "SECRETS_UNAVAILABLE"


class StateUnavailableError(ContainerManagerError):
    """The bot's state directory is missing, not a directory, cannot be made, or no user of the bot could write it."""

    code = "FAILED_PRECONDITION"
    reason = "STATE_UNAVAILABLE"


class SecretsReloadFailedError(ContainerManagerError):
    """The running bot could not read its secrets anew; the message holds the bot's own words, or the backend's."""

    code = "FAILED_PRECONDITION"
    reason = "SECRETS_RELOAD_FAILED"


class ConfigNotReproducibleError(ContainerManagerError):
    """The container has settings that a create cannot give; metadata ``fields`` names them, separated by commas."""

    code = "FAILED_PRECONDITION"
    reason = "CONFIG_NOT_REPRODUCIBLE"


class StartFailedError(ContainerManagerError):
    """The engine rejected the start; the message holds its own text."""

    code = "FAILED_PRECONDITION"
    reason = "START_FAILED"


class CommandNotFoundError(StartFailedError):
    """The container has no such program, or the program's interpreter or loader is missing."""

    reason = "COMMAND_NOT_FOUND"


class CommandNotExecutableError(StartFailedError):
    """The container's program is a file that its user cannot execute on this machine."""

    reason = "COMMAND_NOT_EXECUTABLE"


class PortInUseError(StartFailedError):
    """A host port that the container publishes is in use."""

    reason = "PORT_IN_USE"


class InvalidStateError(ContainerManagerError):
    """The container's state (paused, being removed) does not allow the operation."""

    code = "FAILED_PRECONDITION"
    reason = "INVALID_STATE"


class OperationInProgressError(ContainerManagerError):
    """Another operation on the bot did not end before the caller's deadline."""

    code = "ABORTED"
    reason = "OPERATION_IN_PROGRESS"


class OperationCancelledError(ContainerManagerError):
    """The caller cancelled the call; its work was undone. Only the log shows this error."""

    code = "CANCELLED"
    reason = "OPERATION_CANCELLED"


class EngineUnavailableError(ContainerManagerError):
    """The engine cannot be reached, or reports an error of its own."""

    code = "UNAVAILABLE"
    reason = "ENGINE_UNAVAILABLE"


class EngineAccessDeniedError(ContainerManagerError):
    """The engine's endpoint refuses this process."""

    code = "FAILED_PRECONDITION"
    reason = "ENGINE_ACCESS_DENIED"


class EngineTimeoutError(ContainerManagerError):
    """The engine did not answer in time; it may have carried out the request."""

    code = "DEADLINE_EXCEEDED"
    reason = "ENGINE_TIMEOUT"


class ShuttingDownError(ContainerManagerError):
    """The service is shutting down, which ends the stream."""

    code = "UNAVAILABLE"
    reason = "SHUTTING_DOWN"

    def __init__(
        self, message: str = "the service is shutting down; connect again in a moment", **metadata: str
    ) -> None:
        super().__init__(message, **metadata)


class CapacityExceededError(ContainerManagerError):
    """Too many calls, streams or requests at once, a request that did not arrive in time, or no disk space."""

    code = "RESOURCE_EXHAUSTED"
    reason = "CAPACITY_EXCEEDED"


class UnauthenticatedError(ContainerManagerError):
    """The call carries no token, or a wrong one."""

    code = "UNAUTHENTICATED"
    reason = "UNAUTHENTICATED"


class ServiceNotAllowedError(ContainerManagerError):
    """The listener does not serve this service."""

    code = "PERMISSION_DENIED"
    reason = "SERVICE_NOT_ALLOWED"


class StartupError(Exception):
    """The service cannot start as configured; ``str()`` is a sentence for the operator."""


class AddressInUseError(StartupError):
    """Somebody else has an address of the configuration at the moment."""
