"""The errors of backups, upgrades and actions. :mod:`container_manager.errors` has them too, with all others."""

from __future__ import annotations

from container_manager.error_base import ContainerManagerError


class BackupNotFoundError(ContainerManagerError):
    """There is no backup with this id."""

    code = "NOT_FOUND"
    reason = "BACKUP_NOT_FOUND"


class BackupCorruptError(ContainerManagerError):
    """The backup is not what its manifest says; nothing was changed."""

    code = "DATA_LOSS"
    reason = "BACKUP_CORRUPT"


class BackupUnavailableError(ContainerManagerError):
    """The server keeps no backups, or its backup directory cannot be used."""

    code = "FAILED_PRECONDITION"
    reason = "BACKUP_UNAVAILABLE"


class StateTooLargeError(ContainerManagerError):
    """A state has more or longer names, deeper directories or more bytes than a copy may have: it stays so."""

    code = "RESOURCE_EXHAUSTED"
    reason = "CAPACITY_EXCEEDED"


class UpgradeRolledBackError(ContainerManagerError):
    """The bot did not become ready on the new image or state, and is as it was before; the message says why."""

    code = "FAILED_PRECONDITION"
    reason = "UPGRADE_ROLLED_BACK"


class InternalError(ContainerManagerError):
    """An unexpected error, of which the log has the traceback; the message says what has become of the bot."""


class RollbackFailedError(ContainerManagerError):
    """The bot did not become ready, and could not be put back; the message says where its former state is."""

    code = "FAILED_PRECONDITION"
    reason = "ROLLBACK_FAILED"


class ActionNotAllowedError(ContainerManagerError):
    """The action is not declared for the bot's image, or an argument does not match its pattern."""

    code = "PERMISSION_DENIED"
    reason = "ACTION_NOT_ALLOWED"
