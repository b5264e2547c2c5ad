"""Between the messages of backups and restores and the domain's values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from botmaker.container.v1 import container_maintainer_pb2 as pb
from container_manager.errors import FieldViolation, InvalidConfigError
from container_manager.maintenance import restore
from container_manager.maintenance.journal import Record
from container_manager.maintenance.task import Report
from container_manager.validation import check_bot_id, check_request_id

BACKUP, RESTORE, UPGRADE = "backup", "restore", "upgrade"

_RESTORE_PHASES = {
    restore.VERIFYING: pb.RESTORE_PHASE_VERIFYING,
    restore.STOPPING: pb.RESTORE_PHASE_STOPPING,
    restore.REPLACING: pb.RESTORE_PHASE_REPLACING,
    restore.WAITING_READY: pb.RESTORE_PHASE_WAITING_READY,
    restore.COMMITTED: pb.RESTORE_PHASE_COMMITTED,
    restore.ROLLING_BACK: pb.RESTORE_PHASE_ROLLING_BACK,
    restore.ROLLED_BACK: pb.RESTORE_PHASE_ROLLED_BACK,
    restore.ROLLBACK_FAILED: pb.RESTORE_PHASE_ROLLBACK_FAILED,
}
# Before the first phase is known, the archive is about to be verified.
_FIRST_RESTORE_PHASE = pb.RESTORE_PHASE_VERIFYING


def backup_from_proto(request: pb.CreateBackupRequest) -> Record:
    """What CreateBackup asks for. Raises the errors of an invalid request."""
    return record_from_proto(BACKUP, request, {"stop_and_restart": request.stop_and_restart})


def restore_from_proto(request: pb.RestoreBackupRequest) -> Record:
    """What RestoreBackup asks for. Raises the errors of an invalid request."""
    return record_from_proto(RESTORE, request, {"backup_id": backup_id_from_proto(request)})


def backup_id_from_proto(request: pb.RestoreBackupRequest | pb.DeleteBackupRequest) -> str:
    """The id of a backup. Raises :class:`InvalidConfigError` if it is missing."""
    if not request.backup_id:
        raise InvalidConfigError(FieldViolation("backup_id", "is required"))
    return request.backup_id


def progress_to_proto(report: Report) -> pb.BackupProgress:
    """How far an operation is."""
    return pb.BackupProgress(done_bytes=report.done_bytes, total_bytes=report.total_bytes, message=report.message)


def restore_to_proto(report: Report) -> pb.RestoreBackupResponse:
    """Where a restore is."""
    return pb.RestoreBackupResponse(
        phase=_RESTORE_PHASES.get(report.phase, _FIRST_RESTORE_PHASE),
        progress=progress_to_proto(report) if report.total_bytes else None,
        message=report.message,
    )


def backup_to_proto(document: Mapping[str, Any]) -> pb.Backup:
    """``document``: of :func:`~container_manager.maintenance.backup.backup_document`."""
    create_time = Timestamp()
    create_time.FromNanoseconds(document["create_time_ns"])
    fields = {name: value for name, value in document.items() if name != "create_time_ns"}
    return pb.Backup(**fields, create_time=create_time)


def record_from_proto(
    kind: str,
    request: pb.CreateBackupRequest | pb.RestoreBackupRequest | pb.UpgradeContainerRequest,
    arguments: dict[str, Any],
) -> Record:
    """A long operation with these arguments. Raises the errors of an invalid bot id or request id."""
    check_bot_id(request.bot_id)
    if not request.request_id:
        raise InvalidConfigError(FieldViolation("request_id", "is required: a retry with it does nothing twice"))
    check_request_id(request.request_id)
    return Record(request.request_id, kind, request.bot_id, arguments)
