"""CreateBackup, ListBackups and DeleteBackup: what an archive has, and what a bot notices."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pyrage
import pytest

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from container_manager import __version__
from container_manager.maintenance.backup_store import BackupStore
from container_manager.maintenance.journal import JOURNAL_DIRECTORY
from container_manager.model import ContainerState
from tests.rpc.backup_calls import (
    EXITED,
    PAUSED,
    RESTORE_PHASES,
    RUNNING,
    bot_with_state,
    contents,
    created,
    fill,
    listed,
    nothing_is_left,
    restored,
)
from tests.rpc.conftest import ServeOn
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.waiting import wait_until


@pytest.fixture
def bot_id(bots: MemoryBots, calls: Calls, states: Path) -> str:
    return bot_with_state(bots, calls, states)


def test_an_archive_has_the_state_the_configuration_and_the_image(
    maintainer: ContainerMaintainerStub, bot_id: str, backups: Path, memory: MemoryBackend, states: Path
) -> None:
    (states / bot_id / "tmp").mkdir()
    (states / bot_id / "tmp" / "x").write_text("x")
    backup = created(maintainer, bot_id)
    archive = backups / f"{backup.backup_id}.tar.gz"
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == backup.sha256
    assert (bot_id, archive.stat().st_size, "bot:1") == (backup.bot_id, backup.size_bytes, backup.image)
    assert 0o600 == archive.stat().st_mode & 0o777
    manifest = BackupStore(backups).manifest(backup.backup_id)
    container = memory.named(bot_id)
    assert container is not None
    assert container.config == manifest.config
    assert (container.status.image_id, True) == (manifest.image_id, manifest.was_running)
    assert ["inner", "inner/file"] == [entry.path for entry in manifest.entries]
    assert {"container-manager": __version__} == manifest.versions
    assert nothing_is_left(bot_id, states)
    assert [backup] == listed(maintainer) == listed(maintainer, bot_id)
    assert [] == listed(maintainer, str(uuid4()))


def test_a_container_of_another_name_is_neither_backed_up_nor_restored(
    maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend, calls: Calls, states: Path
) -> None:
    backup = created(maintainer, bot_id)
    memory.change(bot_id, name="botmaker-anna")
    wait_until(lambda: (now := calls.status(bot_id)) and now.name == "botmaker-anna", "it is shown")
    before = [container.status for container in memory.containers.values()]
    for call in (
        lambda: created(maintainer, bot_id),
        lambda: created(maintainer, bot_id, stop_and_restart=True),
        lambda: restored(maintainer, bot_id, backup.backup_id),
    ):
        with fails_with("FAILED_PRECONDITION", "CONTAINER_NAME_MISMATCH"):
            call()
    assert before == [container.status for container in memory.containers.values()]
    assert [backup] == listed(maintainer)
    assert nothing_is_left(bot_id, states)


def test_a_running_bot_is_paused_while_it_is_copied(
    maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend, calls: Calls
) -> None:
    before = calls.status(bot_id)
    with memory.held("unpause") as gate:
        call = threading.Thread(target=created, args=(maintainer, bot_id))
        call.start()
        memory.await_calls("unpause")
        wait_until(lambda: (calls.status(bot_id) or manager_pb.ContainerStatus()).state == PAUSED, "the bot is paused")
        gate.open()
        call.join()
    assert before == calls.status(bot_id)


def test_a_bot_is_stopped_and_started_again_if_the_caller_wants_that(
    maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend, calls: Calls
) -> None:
    created(maintainer, bot_id, stop_and_restart=True)
    assert ["stop_container", "start_container"] == [
        name for name, _ in memory.seen("stop_container", "start_container", "pause")
    ][-2:]
    status = calls.status(bot_id)
    assert status is not None
    assert RUNNING == status.state


def test_a_bot_that_crashes_again_and_again_is_stopped_for_the_copy(
    maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend
) -> None:
    """Between two runs it cannot be paused, and it would start amid the copy."""
    memory.change(bot_id, state=ContainerState.RESTARTING)
    created(maintainer, bot_id)
    seen = [name for name, _ in memory.seen("pause", "stop_container", "start_container")]
    assert ["pause", "stop_container", "start_container"] == seen[-3:]


@pytest.mark.parametrize("stop_and_restart", [False, True])
def test_a_bot_that_is_stopped_or_paused_stays_so(
    maintainer: ContainerMaintainerStub,
    bot_id: str,
    memory: MemoryBackend,
    calls: Calls,
    stop_and_restart: bool,
) -> None:
    memory.change(bot_id, state=ContainerState.PAUSED)
    wait_until(lambda: (calls.status(bot_id) or manager_pb.ContainerStatus()).state == PAUSED, "the bot is paused")
    with (
        fails_with("FAILED_PRECONDITION", "INVALID_STATE")
        if stop_and_restart  # it would run afterwards
        else nullcontext()
    ):
        created(maintainer, bot_id, stop_and_restart=stop_and_restart)
    assert PAUSED == (calls.status(bot_id) or manager_pb.ContainerStatus()).state
    calls.stop(bot_id)
    created(maintainer, bot_id, stop_and_restart=stop_and_restart)
    assert EXITED == (calls.status(bot_id) or manager_pb.ContainerStatus()).state


def test_what_the_image_declares_as_derived_is_left_out(
    maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend, backups: Path
) -> None:
    memory.maintenance.facts = type(memory.maintenance.facts)(("bot@sha256:1",), ("inner/file",))
    backup = created(maintainer, bot_id)
    manifest = BackupStore(backups).manifest(backup.backup_id)
    assert (["inner"], ["bot@sha256:1"]) == ([each.path for each in manifest.entries], manifest.image_digests)


def test_what_cannot_be_archived_is_named(
    maintainer: ContainerMaintainerStub, bot_id: str, states: Path, backups: Path
) -> None:
    os.mkfifo(states / bot_id / "pipe")
    (states / bot_id / "link").symlink_to("/etc/passwd")
    backup = created(maintainer, bot_id)
    assert ["pipe", "link"] == BackupStore(backups).manifest(backup.backup_id).left_out


def test_a_bot_without_a_container_or_without_a_state_has_backups_too(
    maintainer: ContainerMaintainerStub, bot_id: str, calls: Calls, bots: MemoryBots
) -> None:
    calls.remove(bot_id)
    assert "" == created(maintainer, bot_id).image
    other = bots.new()
    calls.create(other, image="bot:1")
    assert "bot:1" == created(maintainer, other).image
    with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
        created(maintainer, bots.new())


def test_a_backup_that_fails_lets_the_bot_go_on_and_leaves_nothing(  # noqa: PLR0917 - fixtures
    maintainer: ContainerMaintainerStub,
    bot_id: str,
    states: Path,
    backups: Path,
    calls: Calls,
    rpc_secrets: Any,
) -> None:
    before = calls.status(bot_id)
    shutil.rmtree(backups)
    for _ in range(2):
        with fails_with("FAILED_PRECONDITION", "BACKUP_UNAVAILABLE"):
            created(maintainer, bot_id, "the-same")
    assert before == calls.status(bot_id)
    assert nothing_is_left(bot_id, states)
    assert [] == list((rpc_secrets.path / JOURNAL_DIRECTORY).glob("*.json"))
    backups.mkdir(0o700)
    assert created(maintainer, bot_id, "the-same").backup_id


def test_a_deleted_backup_is_gone(maintainer: ContainerMaintainerStub, bot_id: str, backups: Path) -> None:
    backup = created(maintainer, bot_id)
    for backup_id in (backup.backup_id, backup.backup_id, "../x", "never"):
        maintainer.DeleteBackup(pb.DeleteBackupRequest(backup_id=backup_id), timeout=60)
    assert ([], []) == (listed(maintainer), list(backups.iterdir()))


def test_a_removal_of_a_backup_does_not_wait_for_lists(
    maintainer: ContainerMaintainerStub, bot_id: str, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those may take long on a slow disk. A list that waits for others says so."""
    backup, begun, go = created(maintainer, bot_id), threading.Semaphore(0), threading.Event()
    read = BackupStore.list

    def slow(store: BackupStore, bot_id: str = "") -> Any:
        begun.release()
        go.wait(60)
        return read(store, bot_id)

    monkeypatch.setattr(BackupStore, "list", slow)
    lists = [maintainer.ListBackups.future(pb.ListBackupsRequest(), timeout=60) for _ in range(2)]
    for _ in lists:
        assert begun.acquire(timeout=10)
    maintainer.DeleteBackup(pb.DeleteBackupRequest(backup_id=backup.backup_id), timeout=10)
    with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT") as caught:
        maintainer.ListBackups(pb.ListBackupsRequest(), timeout=1)
    assert "earlier calls for the list of backups did not end" in caught[0].message
    go.set()
    assert [0, 0] == [len(each.result().backups) for each in lists]
    assert [] == list(backups.iterdir())


OPERATOR = pyrage.x25519.Identity.generate()
SECRETS = {"GATEWAY_TOKEN": b"the-gateway-token", "ANTHROPIC_API_KEY": b"the-api-key"}


@pytest.mark.parametrize("recipients", [(), (str(OPERATOR.to_public()),)])
@pytest.mark.parametrize("kind", ["backup", "upgrade"])
def test_secrets_are_in_no_archive_unless_the_operator_has_them_encrypted(  # noqa: PLR0917 - fixtures
    serve_on: ServeOn,
    unix: str,
    bot_id: str,
    states: Path,
    backups: Path,
    memory: MemoryBackend,
    recipients: tuple[str, ...],
    kind: str,
) -> None:
    with (
        serve_on(unix, backup_recipients=recipients) as (address,),
        grpc.insecure_channel(f"unix:{address[7:]}") as channel,
    ):
        maintainer = ContainerMaintainerStub(channel)
        memory.secrets.put_secrets(bot_id, SECRETS)
        if kind == "backup":
            made = created(maintainer, bot_id)
        else:
            request = pb.UpgradeContainerRequest(bot_id=bot_id, image="bot:2", request_id="u")
            assert pb.UPGRADE_PHASE_COMMITTED == [*maintainer.UpgradeContainer(request, timeout=60)][-1].phase
            (made,) = listed(maintainer)
        assert bool(recipients) is made.has_secrets
        content = gzip.decompress((backups / f"{made.backup_id}.tar.gz").read_bytes())
        assert not [value for value in SECRETS.values() if value in content]
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            sealed = [archive.extractfile(each) for each in archive if each.name == "secrets.tar.age"]
        assert len(recipients) == len(sealed)
        for file in sealed:
            assert file is not None
            with tarfile.open(fileobj=io.BytesIO(pyrage.decrypt(file.read(), [OPERATOR]))) as tar:
                assert SECRETS == {each.name: (tar.extractfile(each) or file).read() for each in tar}
        fill(states / bot_id, "new")
        assert RESTORE_PHASES == restored(maintainer, bot_id, made.backup_id)
        assert "old" == contents(states / bot_id)["inner/file"]
        assert SECRETS == memory.secrets.read_secrets(bot_id)


def test_a_bot_without_secrets_has_none_in_its_archive(
    serve_on: ServeOn, unix: str, bot_id: str, memory: MemoryBackend
) -> None:
    with (
        serve_on(unix, backup_recipients=(str(OPERATOR.to_public()),)) as (address,),
        grpc.insecure_channel(f"unix:{address[7:]}") as channel,
    ):
        assert {} == memory.secrets.read_secrets(bot_id)
        assert not created(ContainerMaintainerStub(channel), bot_id).has_secrets
