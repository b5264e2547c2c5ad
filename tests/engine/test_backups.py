"""Backups and restores on a real engine, by services that are killed meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import docker
import grpc
import pytest

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.maintenance.backup_store import BackupStore
from container_manager_client import connect
from tests.engine.conftest import BuildImage
from tests.support.bots import Bots
from tests.support.calls import Calls
from tests.support.serving import ServerProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the bots of this module are root's")

# Counts in its state, so that it shows whether it is frozen.
COUNTING = ("sh", "-c", "n=0; while :; do n=$((n+1)); echo $n >/home/node/.openclaw/count; sleep 0.02; done")
# So many that the copy takes a while.
FILES = 2_000
RUNNING = manager_pb.CONTAINER_STATE_RUNNING


class Service:
    """A service that may be killed, with roots that outlive it."""

    def __init__(self, arguments: list[str], log: Path, address: str) -> None:
        self._arguments, self._log, self._address = arguments, log, address
        self._stack = ExitStack()
        self.start()

    def start(self) -> None:
        """Start it, again."""
        self._process = ServerProcess(self._arguments, self._log)
        assert self._process.line, self._process.log_text()
        self._stack = ExitStack()
        channel = self._stack.enter_context(connect(self._address))
        self.maintainer, self.calls = ContainerMaintainerStub(channel), Calls(ContainerManagerStub(channel))

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


@pytest.fixture
def roots(session_dir: Path, tmp_path: Path) -> Path:
    """A directory with the roots of states and backups."""
    roots = session_dir / tmp_path.name
    for name, mode in (("states", 0o711), ("backups", 0o700)):
        (roots / name).mkdir(mode, parents=True)
    return roots


@pytest.fixture
def service(engine_url: str, roots: Path, secrets_root: Path, test_image: str) -> Iterator[Service]:
    """A service whose bots are root's."""
    address = f"unix://{roots}/s.sock"
    arguments = ["--listen", address, "--docker-host", engine_url, "--secrets-root", str(secrets_root)]
    arguments += ["--state-root", f"{roots}/states", "--backup-root", f"{roots}/backups", "--bot-user", "0:0"]
    service = Service([*arguments, "--default-image", test_image], roots / "log", address)
    yield service
    service.close()


def is_paused(engine: docker.DockerClient, bot_id: str) -> bool:
    """Whether the engine says that the bot is paused."""
    return bool(engine.api.inspect_container(f"botmaker-{bot_id}")["State"]["Paused"])


def in_background(call: Callable[..., Any], *arguments: str) -> threading.Thread:
    """A call whose service is killed."""

    def work() -> None:
        with suppress(grpc.RpcError):
            call(*arguments)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_service_killed_amid_backup_and_restore_finishes_both(
    service: Service, bots: Bots, roots: Path, engine: docker.DockerClient, build_image: BuildImage
) -> None:
    image = build_image("LABEL botmaker.derived-state=made/anew")
    bot_id = bots.new()
    health = manager_pb.HealthCheck(command=["true"], interval={"seconds": 1})
    service.calls.run(bot_id, *COUNTING, image=image, health_check=health)
    state = roots / "states" / bot_id
    wait_until((state / "count").exists, "the bot runs")
    (state / "many").mkdir()
    for number in range(FILES):
        (state / "many" / str(number)).write_text("old")
    (state / "made" / "anew").mkdir(parents=True)

    call = in_background(service.create_backup, bot_id, "backup")
    wait_until(lambda: is_paused(engine, bot_id), "the bot is paused")
    service.kill()
    call.join()
    assert is_paused(engine, bot_id), "the copy was still being made"
    service.start()
    backup = service.create_backup(bot_id, "backup")
    assert not is_paused(engine, bot_id)
    count = (state / "count").read_text()
    wait_until(lambda: (state / "count").read_text() not in ("", count), "the bot goes on")
    manifest = BackupStore(roots / "backups").manifest(backup.backup_id)
    assert {"count", "many", "made"} == {each.path for each in manifest.entries if not each.path.startswith("many/")}
    assert FILES + 3 == len(manifest.entries)
    assert manifest.config is not None
    assert (image, COUNTING) == (manifest.config.image, manifest.config.command)
    assert [backup] == list(service.maintainer.ListBackups(pb.ListBackupsRequest()).backups)

    (state / "many" / "1").write_text("new")
    for event in service.restore(bot_id, backup.backup_id, "restore"):
        if event.phase == pb.RESTORE_PHASE_WAITING_READY:
            break
    service.kill()
    service.start()
    assert pb.RESTORE_PHASE_COMMITTED == [*service.restore(bot_id, backup.backup_id, "restore")][-1].phase
    status = service.calls.status(bot_id)
    assert status is not None
    assert (RUNNING, manager_pb.HEALTH_STATUS_HEALTHY) == (status.state, status.health)
    assert "old" == (state / "many" / "1").read_text()
    assert [] == list((roots / "states" / ".maintenance").iterdir())

    service.calls.remove(bot_id, grace=0)
    (state / "many" / "1").write_text("new")
    last = [*service.restore(bot_id, backup.backup_id, "anew")][-1]
    assert pb.RESTORE_PHASE_COMMITTED == last.phase
    assert "old" == (state / "many" / "1").read_text()
    again = service.calls.status(bot_id)
    assert again is not None
    assert (RUNNING, image) == (again.state, again.image)
    service.calls.remove(bot_id, grace=0)
