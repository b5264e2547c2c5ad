"""A service with roots of states and backups, which is killed and started again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect
from tests.support.calls import Calls
from tests.support.serving import ServerProcess


class MaintainedService:
    """A service that may be killed, with roots that outlive it."""

    def __init__(self, arguments: list[str], log: Path, address: str) -> None:
        self._arguments, self._log, self.address = arguments, log, address
        self._stack = ExitStack()
        self.start()

    def start(self, *further: str) -> None:
        """Start it, again; ``further``: options from now on."""
        self._arguments += further
        self._process = ServerProcess(self._arguments, self._log)
        assert self._process.line, self._process.log_text()
        self._stack = ExitStack()
        self.channel = self._stack.enter_context(connect(self.address))
        self.maintainer, self.calls = ContainerMaintainerStub(self.channel), Calls(ContainerManagerStub(self.channel))
        self.provisioner = BotProvisionerStub(self.channel)

    def kill(self) -> None:
        """End it as a lack of memory would."""
        self._process.terminate(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """End it."""
        self._stack.close()
        self._process.close()

    def create_backup(self, bot_id: str, request_id: str) -> pb.Backup:
        """CreateBackup."""
        request = pb.CreateBackupRequest(bot_id=bot_id, request_id=request_id)
        *_, last = self.maintainer.CreateBackup(request, timeout=120)
        return last.backup

    def restore(self, bot_id: str, backup_id: str, request_id: str) -> Iterator[pb.RestoreBackupResponse]:
        """RestoreBackup."""
        request = pb.RestoreBackupRequest(bot_id=bot_id, backup_id=backup_id, request_id=request_id)
        return self.maintainer.RestoreBackup(request, timeout=120)

    def upgrade(self, bot_id: str, image: str, request_id: str, **fields: Any) -> Iterator[pb.UpgradeContainerResponse]:
        """UpgradeContainer."""
        request = pb.UpgradeContainerRequest(bot_id=bot_id, image=image, request_id=request_id, **fields)
        return self.maintainer.UpgradeContainer(request, timeout=120)


def made_roots(directory: Path) -> Path:
    """The directory, which it makes, with roots of states and backups."""
    for name, mode in (("states", 0o711), ("backups", 0o700)):
        (directory / name).mkdir(mode, parents=True)
    return directory


def service_of_root(engine_url: str, roots: Path, secrets_root: Path, image: str) -> MaintainedService:
    """A service whose bots are root's, with the roots that :func:`made_roots` has made."""
    address = f"unix://{roots}/s.sock"
    arguments = ["--listen", address, "--docker-host", engine_url, "--secrets-root", str(secrets_root)]
    arguments += ["--state-root", f"{roots}/states", "--backup-root", f"{roots}/backups", "--bot-user", "0:0"]
    return MaintainedService([*arguments, "--default-image", image], roots / "log", address)
