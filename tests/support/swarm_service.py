"""Services in this process, also with a backup root, and short forms of what the tests of states on a swarm call."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backends.swarm.backend import SwarmBackend
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig, SwarmConfig
from container_manager_client import connect
from tests.support.calls import Calls
from tests.support.serving import running_calls, running_server


@dataclass(frozen=True)
class KeptService:
    """Stubs of a service that keeps bots' states and backups."""

    calls: Calls
    provisioner: BotProvisionerStub
    maintainer: ContainerMaintainerStub
    backups: Path

    def backup(self, bot_id: str) -> str:
        """CreateBackup, of a bot that is stopped for it; the backup's id."""
        request = pb.CreateBackupRequest(bot_id=bot_id, request_id=str(uuid.uuid4()), stop_and_restart=True)
        *_, last = self.maintainer.CreateBackup(request, timeout=120)
        return last.backup.backup_id

    def move_backup(self, backup_id: str, target: KeptService) -> None:
        """Copy a backup to another service's root."""
        shutil.copy(self.backups / f"{backup_id}.tar.gz", target.backups)

    def restore(self, bot_id: str, backup_id: str) -> None:
        """RestoreBackup."""
        request = pb.RestoreBackupRequest(bot_id=bot_id, backup_id=backup_id, request_id=str(uuid.uuid4()))
        list(self.maintainer.RestoreBackup(request, timeout=120))

    def upgrade(self, bot_id: str, image: str, **fields: Any) -> list[pb.UpgradeContainerResponse]:
        """UpgradeContainer."""
        request = pb.UpgradeContainerRequest(bot_id=bot_id, image=image, request_id=str(uuid.uuid4()), **fields)
        return list(self.maintainer.UpgradeContainer(request, timeout=120))


def root_of(path: Path) -> RootDirectory:
    """A directory for a root, which is made if it is not there."""
    path.mkdir(0o700, parents=True, exist_ok=True)
    return RootDirectory(path, path)


def swarm_calls(service: BackendConfig, swarm: SwarmConfig, socket: Path) -> AbstractContextManager[Calls]:
    """Calls to a service on a swarm."""
    config = ServerConfig(service=service, swarm=swarm, listen=(f"unix://{socket}",))
    return running_calls(config, backend=partial(SwarmBackend, service, swarm))


@contextmanager
def kept_service(
    service: BackendConfig, swarm: SwarmConfig | None, address: str, backups: Path
) -> Iterator[KeptService]:
    """A service on a swarm; ``None``: on one engine."""
    backend = None if swarm is None else partial(SwarmBackend, service, swarm)
    config = ServerConfig(service=service, swarm=swarm, listen=(address,), backup_root=backups)
    with running_server(config, backend=backend) as (target,), connect(target) as channel:
        yield KeptService(
            Calls(ContainerManagerStub(channel)),
            BotProvisionerStub(channel),
            ContainerMaintainerStub(channel),
            backups,
        )
