"""Between the messages of ContainerMaintainer and the domain's values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from botmaker.container.v1 import container_maintainer_pb2 as pb
from container_manager.errors import FieldViolation, InvalidConfigError
from container_manager.image_reference import check_image_reference
from container_manager.maintenance.action_output import Piece
from container_manager.maintenance.action_runner import ActionEnd
from container_manager.maintenance.backup_store import MAX_BACKUP_ID_CHARACTERS
from container_manager.maintenance.journal import BACKUP, RESTORE, UPGRADE, Record
from container_manager.maintenance.restore import VERIFYING
from container_manager.maintenance.steps import READY_SECONDS
from container_manager.maintenance.task import Report
from container_manager.maintenance.upgrade import PULLING
from container_manager.model import LogSource
from container_manager.rpc.manager_codec import grace_seconds_from_proto
from container_manager.validation import check_bot_id, check_request_id

_MOST_READY_SECONDS = 3600


def upgrade_from_proto(request: pb.UpgradeContainerRequest) -> Record:
    """What UpgradeContainer asks for. Raises the errors of an invalid request."""
    ready_seconds = READY_SECONDS
    if request.HasField("ready_timeout"):
        ready_seconds = request.ready_timeout.seconds + request.ready_timeout.nanos / 1e9
        if not 1 <= ready_seconds <= _MOST_READY_SECONDS:
            raise InvalidConfigError(FieldViolation("ready_timeout", f"must be 1 to {_MOST_READY_SECONDS} seconds"))
    if not request.image:
        raise InvalidConfigError(FieldViolation("image", "is required"))
    check_image_reference(request.image, "image")
    arguments = {
        "image": request.image,
        "ready_seconds": ready_seconds,
        "grace_seconds": grace_seconds_from_proto(request),
        "skip_backup": request.skip_backup,
    }
    return _record(UPGRADE, request, arguments)


def upgrade_to_proto(report: Report) -> pb.UpgradeContainerResponse:
    """Where an upgrade is."""
    is_pulling = report.phase == PULLING and report.total_bytes
    pulled = pb.PullProgress(downloaded_bytes=report.done_bytes, total_bytes=report.total_bytes)
    return pb.UpgradeContainerResponse(
        phase=f"UPGRADE_PHASE_{(report.phase or PULLING).upper()}",
        pull_progress=pulled if is_pulling else None,
        message=report.message,
        backup_id=report.facts.get("backup_id") or "",
        old_image_id=report.facts.get("old_image_id") or "",
        new_image_id=report.facts.get("new_image_id") or "",
    )


def backup_from_proto(request: pb.CreateBackupRequest) -> Record:
    """What CreateBackup asks for. Raises the errors of an invalid request."""
    return _record(BACKUP, request, {"stop_and_restart": request.stop_and_restart})


def restore_from_proto(request: pb.RestoreBackupRequest) -> Record:
    """What RestoreBackup asks for. Raises the errors of an invalid request."""
    return _record(RESTORE, request, {"backup_id": backup_id_from_proto(request)})


def backup_id_from_proto(request: pb.RestoreBackupRequest | pb.DeleteBackupRequest) -> str:
    """The id of a backup. Raises :class:`InvalidConfigError` if it is missing or too long."""
    if not request.backup_id:
        raise InvalidConfigError(FieldViolation("backup_id", "is required"))
    # The record of a restore keeps it after its call has ended.
    if len(request.backup_id) > MAX_BACKUP_ID_CHARACTERS:
        raise InvalidConfigError(FieldViolation("backup_id", f"must be at most {MAX_BACKUP_ID_CHARACTERS} characters"))
    return request.backup_id


def progress_to_proto(report: Report) -> pb.BackupProgress:
    """How far an operation is."""
    return pb.BackupProgress(done_bytes=report.done_bytes, total_bytes=report.total_bytes, message=report.message)


def restore_to_proto(report: Report) -> pb.RestoreBackupResponse:
    """Where a restore is."""
    return pb.RestoreBackupResponse(
        phase=f"RESTORE_PHASE_{(report.phase or VERIFYING).upper()}",
        progress=progress_to_proto(report) if report.total_bytes else None,
        message=report.message,
    )


def backup_to_proto(document: Mapping[str, Any]) -> pb.Backup:
    """``document``: of :func:`~container_manager.maintenance.backup.backup_document`."""
    create_time = Timestamp()
    create_time.FromNanoseconds(document["create_time_ns"])
    fields = {name: value for name, value in document.items() if name != "create_time_ns"}
    return pb.Backup(**fields, create_time=create_time)


def action_event_to_proto(event: Piece | ActionEnd) -> pb.RunActionResponse:
    """One event of an action."""
    if isinstance(event, Piece):
        if event.source is LogSource.STDERR:
            return pb.RunActionResponse(stderr=event.data)
        return pb.RunActionResponse(stdout=event.data)
    return pb.RunActionResponse(
        end=pb.ActionEnd(exit_code=event.exit_code, timed_out=event.timed_out, omitted_bytes=event.omitted_bytes)
    )


def _record(
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
