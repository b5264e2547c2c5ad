"""The calls about backups over gRPC, by bot id, and a bot whose state they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from container_manager.provisioning.host_states import MAINTENANCE_DIRECTORY
from tests.support.calls import Calls
from tests.support.memory_backend import MemoryBots

RUNNING = manager_pb.CONTAINER_STATE_RUNNING
PAUSED = manager_pb.CONTAINER_STATE_PAUSED
EXITED = manager_pb.CONTAINER_STATE_EXITED
RESTORE_PHASES = [
    pb.RESTORE_PHASE_VERIFYING,
    pb.RESTORE_PHASE_STOPPING,
    pb.RESTORE_PHASE_REPLACING,
    pb.RESTORE_PHASE_WAITING_READY,
    pb.RESTORE_PHASE_COMMITTED,
]


def fill(state: Path, content: str) -> None:
    """Write a state."""
    (state / "inner").mkdir(parents=True, exist_ok=True)
    (state / "inner" / "file").write_text(content)
    (state / "cache").mkdir(exist_ok=True)
    (state / "cache" / "asset").write_text(content)


def contents(state: Path) -> dict[str, str]:
    """The files of a state."""
    return {str(path.relative_to(state)): path.read_text() for path in sorted(state.rglob("*")) if path.is_file()}


def created(maintainer: ContainerMaintainerStub, bot_id: str, request_id: str = "", **fields: Any) -> pb.Backup:
    """CreateBackup; the archive."""
    request = pb.CreateBackupRequest(bot_id=bot_id, request_id=request_id or str(uuid4()), **fields)
    *_, last = maintainer.CreateBackup(request, timeout=60)
    assert last.HasField("backup")
    return last.backup


def restored(maintainer: ContainerMaintainerStub, bot_id: str, backup_id: str, request_id: str = "") -> list[int]:
    """RestoreBackup; the phases."""
    request = pb.RestoreBackupRequest(bot_id=bot_id, backup_id=backup_id, request_id=request_id or str(uuid4()))
    phases = [each.phase for each in maintainer.RestoreBackup(request, timeout=60)]
    return [phase for index, phase in enumerate(phases) if phase not in phases[:index]]


def listed(maintainer: ContainerMaintainerStub, bot_id: str = "") -> list[pb.Backup]:
    """ListBackups."""
    return list(maintainer.ListBackups(pb.ListBackupsRequest(bot_id=bot_id), timeout=60).backups)


def nothing_is_left(bot_id: str, states: Path) -> bool:
    """Whether there is no copy beside the bot's state."""
    return not (states / MAINTENANCE_DIRECTORY / bot_id).exists()


def bot_with_state(bots: MemoryBots, calls: Calls, states: Path) -> str:
    """A running bot with a state."""
    bot_id = bots.new()
    calls.run(bot_id, "serve", image="bot:1", environment={"A": "b"}, labels={"tier": "one"})
    fill(states / bot_id, "old")
    return bot_id
