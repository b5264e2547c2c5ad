"""Between the messages of upgrades and the domain's values."""

from __future__ import annotations

from botmaker.container.v1 import container_maintainer_pb2 as pb
from container_manager.errors import FieldViolation, InvalidConfigError
from container_manager.image_reference import check_image_reference
from container_manager.maintenance import upgrade
from container_manager.maintenance.journal import Record
from container_manager.maintenance.task import Report
from container_manager.rpc.backup_codec import UPGRADE, record_from_proto
from container_manager.rpc.manager_codec import grace_seconds_from_proto

READY_SECONDS = 120.0
MOST_READY_SECONDS = 3600

_PHASES = {
    upgrade.PULLING: pb.UPGRADE_PHASE_PULLING,
    upgrade.STOPPING: pb.UPGRADE_PHASE_STOPPING,
    upgrade.BACKING_UP: pb.UPGRADE_PHASE_BACKING_UP,
    upgrade.REPLACING: pb.UPGRADE_PHASE_REPLACING,
    upgrade.WAITING_READY: pb.UPGRADE_PHASE_WAITING_READY,
    upgrade.COMMITTED: pb.UPGRADE_PHASE_COMMITTED,
    upgrade.ROLLING_BACK: pb.UPGRADE_PHASE_ROLLING_BACK,
    upgrade.ROLLED_BACK: pb.UPGRADE_PHASE_ROLLED_BACK,
    upgrade.ROLLBACK_FAILED: pb.UPGRADE_PHASE_ROLLBACK_FAILED,
}


def upgrade_from_proto(request: pb.UpgradeContainerRequest) -> Record:
    """What UpgradeContainer asks for. Raises the errors of an invalid request."""
    ready_seconds = READY_SECONDS
    if request.HasField("ready_timeout"):
        ready_seconds = request.ready_timeout.seconds + request.ready_timeout.nanos / 1e9
        if not 1 <= ready_seconds <= MOST_READY_SECONDS:
            raise InvalidConfigError(FieldViolation("ready_timeout", f"must be 1 to {MOST_READY_SECONDS} seconds"))
    if not request.image:
        raise InvalidConfigError(FieldViolation("image", "is required"))
    check_image_reference(request.image, "image")
    arguments = {
        "image": request.image,
        "ready_seconds": ready_seconds,
        "grace_seconds": grace_seconds_from_proto(request),
        "skip_backup": request.skip_backup,
    }
    return record_from_proto(UPGRADE, request, arguments)


def upgrade_to_proto(report: Report) -> pb.UpgradeContainerResponse:
    """Where an upgrade is."""
    return pb.UpgradeContainerResponse(
        phase=_PHASES.get(report.phase, pb.UPGRADE_PHASE_PULLING),
        message=report.message,
        backup_id=report.facts.get("backup_id") or "",
        old_image_id=report.facts.get("old_image_id") or "",
        new_image_id=report.facts.get("new_image_id") or "",
    )
