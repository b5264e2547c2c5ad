"""CreateBackup, ListBackups, DeleteBackup and RestoreBackup."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
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
from container_manager.backend_maintenance import Pulled
from container_manager.bot_directories import RootDirectory
from container_manager.config import ServerConfig
from container_manager.errors import ImageNotFoundError, StartFailedError
from container_manager.maintenance import readiness
from container_manager.maintenance.backup_store import BackupStore
from container_manager.maintenance.journal import JOURNAL_DIRECTORY
from container_manager.model import ContainerState, container_name
from container_manager.provisioning.host_states import MAINTENANCE_DIRECTORY
from tests.rpc.conftest import ServeOn
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.waiting import wait_until
from tests.unit.archives import CONFIG, MANIFEST, archive_of, put

RUNNING, PAUSED, EXITED = (
    manager_pb.CONTAINER_STATE_RUNNING,
    manager_pb.CONTAINER_STATE_PAUSED,
    manager_pb.CONTAINER_STATE_EXITED,
)


@pytest.fixture(autouse=True)
def _ready_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images in memory declare nothing, so their bots are ready when they have run for a while."""
    monkeypatch.setattr(readiness, "RUNNING_SECONDS", 0.2)
    monkeypatch.setattr(readiness, "_LOOK_SECONDS", 0.05)


@pytest.fixture
def states(tmp_path: Path) -> Path:
    """The state root."""
    (tmp_path / "root-of-states").mkdir()
    return tmp_path / "root-of-states"


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    """The backup root."""
    (tmp_path / "root-of-backups").mkdir(0o700)
    return tmp_path / "root-of-backups"


@pytest.fixture
def memory(rpc_secrets: RootDirectory, states: Path) -> MemoryBackend:
    return MemoryBackend(rpc_secrets, state_root=RootDirectory(states, states))


@pytest.fixture
def server_config(server_config: Callable[..., ServerConfig], backups: Path) -> Callable[..., ServerConfig]:
    return lambda *listen, **further: server_config(*listen, **{"backup_root": backups, **further})


@pytest.fixture
def maintainer(grpc_channel: Any) -> ContainerMaintainerStub:
    """The maintainer's generated stub."""
    return ContainerMaintainerStub(grpc_channel)


@pytest.fixture
def bot_id(bots: MemoryBots, calls: Calls, states: Path) -> str:
    """A running bot with a state."""
    bot_id = bots.new()
    calls.run(bot_id, "serve", image="bot:1", environment={"A": "b"}, labels={"tier": "one"})
    fill(states / bot_id, "old")
    return bot_id


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


class TestCreate:
    """Backups of what runs, and of what does not."""

    def test_an_archive_has_the_state_the_configuration_and_the_image(
        self, maintainer: ContainerMaintainerStub, bot_id: str, backups: Path, memory: MemoryBackend, states: Path
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
        self, maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend, calls: Calls, states: Path
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
        self, maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend, calls: Calls
    ) -> None:
        before = calls.status(bot_id)
        with memory.held("unpause") as gate:
            call = threading.Thread(target=created, args=(maintainer, bot_id))
            call.start()
            memory.await_calls("unpause")
            wait_until(
                lambda: (calls.status(bot_id) or manager_pb.ContainerStatus()).state == PAUSED, "the bot is paused"
            )
            gate.open()
            call.join()
        assert before == calls.status(bot_id)

    def test_a_bot_is_stopped_and_started_again_if_the_caller_wants_that(
        self, maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend, calls: Calls
    ) -> None:
        created(maintainer, bot_id, stop_and_restart=True)
        assert ["stop_container", "start_container"] == [
            name for name, _ in memory.seen("stop_container", "start_container", "pause")
        ][-2:]
        status = calls.status(bot_id)
        assert status is not None
        assert RUNNING == status.state

    def test_a_bot_that_crashes_again_and_again_is_stopped_for_the_copy(
        self, maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend
    ) -> None:
        """Between two runs it cannot be paused, and it would start amid the copy."""
        memory.change(bot_id, state=ContainerState.RESTARTING)
        created(maintainer, bot_id)
        seen = [name for name, _ in memory.seen("pause", "stop_container", "start_container")]
        assert ["pause", "stop_container", "start_container"] == seen[-3:]

    @pytest.mark.parametrize("stop_and_restart", [False, True])
    def test_a_bot_that_is_stopped_or_paused_stays_so(
        self,
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
        self, maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend, backups: Path
    ) -> None:
        memory.maintenance.facts = type(memory.maintenance.facts)(("bot@sha256:1",), ("inner/file",))
        backup = created(maintainer, bot_id)
        manifest = BackupStore(backups).manifest(backup.backup_id)
        assert (["inner"], ["bot@sha256:1"]) == ([each.path for each in manifest.entries], manifest.image_digests)

    def test_what_cannot_be_archived_is_named(
        self, maintainer: ContainerMaintainerStub, bot_id: str, states: Path, backups: Path
    ) -> None:
        os.mkfifo(states / bot_id / "pipe")
        (states / bot_id / "link").symlink_to("/etc/passwd")
        backup = created(maintainer, bot_id)
        assert ["pipe", "link"] == BackupStore(backups).manifest(backup.backup_id).left_out

    def test_a_bot_without_a_container_or_without_a_state_has_backups_too(
        self, maintainer: ContainerMaintainerStub, bot_id: str, calls: Calls, bots: MemoryBots
    ) -> None:
        calls.remove(bot_id)
        assert "" == created(maintainer, bot_id).image
        other = bots.new()
        calls.create(other, image="bot:1")
        assert "bot:1" == created(maintainer, other).image
        with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
            created(maintainer, bots.new())

    def test_a_backup_that_fails_lets_the_bot_go_on_and_leaves_nothing(  # noqa: PLR0917 - fixtures
        self,
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
        assert [] == list((rpc_secrets.path / JOURNAL_DIRECTORY).iterdir())
        backups.mkdir(0o700)
        assert created(maintainer, bot_id, "the-same").backup_id

    def test_without_a_state_root_there_are_no_backups(
        self, serve_on: ServeOn, unix: str, memory: MemoryBackend, bots: MemoryBots, backups: Path
    ) -> None:
        """An archive without the state would pass for a whole one."""
        memory.states = None
        bot_id = bots.new()
        memory.add(bot_id)
        with serve_on(unix) as (address,), grpc.insecure_channel(f"unix:{address[7:]}") as channel:
            for stop_and_restart in (False, True):
                with fails_with("FAILED_PRECONDITION", "BACKUP_UNAVAILABLE"):
                    created(ContainerMaintainerStub(channel), bot_id, stop_and_restart=stop_and_restart)
        assert [] == list(backups.iterdir())
        assert [] == memory.seen("pause", "stop_container")

    def test_a_deleted_backup_is_gone(self, maintainer: ContainerMaintainerStub, bot_id: str, backups: Path) -> None:
        backup = created(maintainer, bot_id)
        for backup_id in (backup.backup_id, backup.backup_id, "../x", "never"):
            maintainer.DeleteBackup(pb.DeleteBackupRequest(backup_id=backup_id), timeout=60)
        assert ([], []) == (listed(maintainer), list(backups.iterdir()))


class TestRequestIds:
    """A retry does nothing twice."""

    def test_the_same_request_again_gives_the_outcome_also_after_a_restart_of_the_service(
        self, serve_on: ServeOn, unix: str, bot_id: str, maintainer: ContainerMaintainerStub, backups: Path
    ) -> None:
        backup = created(maintainer, bot_id, "the-same")
        assert backup == created(maintainer, bot_id, "the-same")
        with serve_on(unix) as (address,), grpc.insecure_channel(address.replace("unix://", "unix:")) as channel:
            assert backup == created(ContainerMaintainerStub(channel), bot_id, "the-same")
        assert 2 == len(list(backups.iterdir()))

    def test_other_arguments_are_refused(
        self, maintainer: ContainerMaintainerStub, bot_id: str, bots: MemoryBots
    ) -> None:
        backup = created(maintainer, bot_id, "the-same")
        with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
            created(maintainer, bot_id, "the-same", stop_and_restart=True)
        with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
            created(maintainer, bots.new(), "the-same")
        with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
            restored(maintainer, bot_id, backup.backup_id, "the-same")

    def test_a_call_joins_the_operation_in_progress_and_another_request_is_refused(
        self, maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend
    ) -> None:
        with memory.held("unpause") as gate:
            request = pb.CreateBackupRequest(bot_id=bot_id, request_id="the-same")
            first = maintainer.CreateBackup(request, timeout=60)
            memory.await_calls("unpause")
            second = maintainer.CreateBackup(request, timeout=60)
            assert next(second).HasField("progress")
            with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
                created(maintainer, bot_id)
            with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
                created(maintainer, bot_id, "the-same", stop_and_restart=True)
            gate.open()
            assert [*first][-1] == [*second][-1]

    def test_it_goes_on_when_its_caller_goes_away(
        self, maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend
    ) -> None:
        with memory.held("unpause") as gate:
            call = maintainer.CreateBackup(pb.CreateBackupRequest(bot_id=bot_id, request_id="r"), timeout=60)
            memory.await_calls("unpause")
            call.cancel()
            gate.open()
        wait_until(lambda: len(listed(maintainer)) == 1, "the backup is there")

    def test_the_other_verbs_wait_for_it(
        self, maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend, calls: Calls
    ) -> None:
        with memory.held("unpause"):
            call = maintainer.CreateBackup(pb.CreateBackupRequest(bot_id=bot_id, request_id="r"), timeout=60)
            memory.await_calls("unpause")
            with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
                calls.stop(bot_id, timeout=2)
            assert calls.status(bot_id) is not None
        assert [*call][-1].HasField("backup")

    @pytest.mark.parametrize("request_id", ["", "x" * 129, "a b", "\u00fc"])
    def test_an_invalid_request_id_is_refused(
        self, maintainer: ContainerMaintainerStub, bot_id: str, request_id: str
    ) -> None:
        for request, call in (
            (pb.CreateBackupRequest(bot_id=bot_id, request_id=request_id), maintainer.CreateBackup),
            (pb.RestoreBackupRequest(bot_id=bot_id, backup_id="b", request_id=request_id), maintainer.RestoreBackup),
        ):
            with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
                next(call(request, timeout=60))


ALL_PHASES = [
    pb.RESTORE_PHASE_VERIFYING,
    pb.RESTORE_PHASE_STOPPING,
    pb.RESTORE_PHASE_REPLACING,
    pb.RESTORE_PHASE_WAITING_READY,
    pb.RESTORE_PHASE_COMMITTED,
]


class TestRestore:
    """A state goes back, and the former one stays until the bot is ready."""

    def test_a_running_bot_gets_its_state_back(
        self, maintainer: ContainerMaintainerStub, bot_id: str, states: Path, calls: Calls
    ) -> None:
        backup = created(maintainer, bot_id)
        before = calls.status(bot_id)
        fill(states / bot_id, "new")
        assert ALL_PHASES == restored(maintainer, bot_id, backup.backup_id)
        assert {"inner/file": "old"} == contents(states / bot_id)
        after = calls.status(bot_id)
        assert before is not None
        assert after is not None
        assert (before.container_id, RUNNING) == (after.container_id, after.state)
        assert after.start_time.ToNanoseconds() > before.start_time.ToNanoseconds()
        assert nothing_is_left(bot_id, states)

    def test_a_stopped_bot_ends_stopped(
        self, maintainer: ContainerMaintainerStub, bot_id: str, states: Path, calls: Calls
    ) -> None:
        backup = created(maintainer, bot_id)
        calls.stop(bot_id)
        fill(states / bot_id, "new")
        restored(maintainer, bot_id, backup.backup_id)
        assert {"inner/file": "old"} == contents(states / bot_id)
        assert EXITED == (calls.status(bot_id) or manager_pb.ContainerStatus()).state

    def test_a_paused_bot_is_not_touched_for_it_would_run_afterwards(
        self, maintainer: ContainerMaintainerStub, bot_id: str, states: Path, memory: MemoryBackend, calls: Calls
    ) -> None:
        backup = created(maintainer, bot_id)
        fill(states / bot_id, "new")
        memory.change(bot_id, state=ContainerState.PAUSED)
        before = wait_until(lambda: (now := calls.status(bot_id)) and now.state == PAUSED and now, "it is paused")
        with fails_with("FAILED_PRECONDITION", "INVALID_STATE"):
            restored(maintainer, bot_id, backup.backup_id)
        assert before == calls.status(bot_id)
        assert "new" == contents(states / bot_id)["inner/file"]
        assert nothing_is_left(bot_id, states)

    def test_another_bot_without_a_container_is_made_as_the_manifest_says(
        self, maintainer: ContainerMaintainerStub, bot_id: str, states: Path, bots: MemoryBots, memory: MemoryBackend
    ) -> None:
        """Also on another machine, to which the archive was copied."""
        backup = created(maintainer, bot_id)
        other = bots.new()
        restored(maintainer, other, backup.backup_id)
        assert {"inner/file": "old"} == contents(states / other)
        one, two = memory.named(bot_id), memory.named(other)
        assert one is not None
        assert two is not None
        assert one.config == two.config
        assert ContainerState.RUNNING is two.status.state
        assert {"inner/file": "old", "cache/asset": "old"} == contents(states / bot_id)

    def test_the_image_of_a_bot_that_is_made_is_pulled_before_anything_is_unpacked_and_that_is_told(
        self, maintainer: ContainerMaintainerStub, bot_id: str, bots: MemoryBots, memory: MemoryBackend
    ) -> None:
        backup = created(maintainer, bot_id)
        memory.maintenance.pulled = [Pulled(1 << 20, 3 << 20)]
        request = pb.RestoreBackupRequest(bot_id=bots.new(), backup_id=backup.backup_id, request_id="r")
        told = [each.progress for each in maintainer.RestoreBackup(request, timeout=60) if each.HasField("progress")]
        pulls = [each for each in told if each.message == "getting the image bot:1"]
        assert [pb.BackupProgress(done_bytes=1 << 20, total_bytes=3 << 20, message="getting the image bot:1")] == pulls
        memory.script("prepare_image", ImageNotFoundError("no such image"))
        with fails_with("FAILED_PRECONDITION", "IMAGE_NOT_FOUND"):
            restored(maintainer, bots.new(), backup.backup_id)

    def test_a_network_of_the_former_bots_own_becomes_one_of_the_new_bots_own(
        self, maintainer: ContainerMaintainerStub, calls: Calls, bots: MemoryBots, memory: MemoryBackend
    ) -> None:
        former, other = bots.new(), bots.new()
        calls.create(former, network=container_name(former))
        restored(maintainer, other, created(maintainer, former).backup_id)
        made = memory.named(other)
        assert made is not None
        assert container_name(other) == made.config.network

    def test_a_bot_that_cannot_be_made_is_not_touched(
        self, maintainer: ContainerMaintainerStub, bot_id: str, states: Path, bots: MemoryBots
    ) -> None:
        backup = created(maintainer, bot_id)
        other = bots.bare()
        fill(states / other, "mine")
        with fails_with("FAILED_PRECONDITION", "SECRETS_UNAVAILABLE"):
            restored(maintainer, other, backup.backup_id)
        assert {"inner/file": "mine", "cache/asset": "mine"} == contents(states / other)
        assert nothing_is_left(other, states)

    def test_a_description_that_no_service_would_write_is_refused(
        self, maintainer: ContainerMaintainerStub, bots: MemoryBots, backups: Path, states: Path
    ) -> None:
        bot_id = bots.new()
        config = replace(CONFIG, environment=[3])  # type: ignore[arg-type]
        put(backups, archive_of([], manifest=replace(MANIFEST, config=config)))
        with fails_with("DATA_LOSS", "BACKUP_CORRUPT"):
            restored(maintainer, bot_id, "backup")
        assert nothing_is_left(bot_id, states)

    def test_a_bot_that_does_not_start_gets_its_former_state_back(
        self, maintainer: ContainerMaintainerStub, bot_id: str, states: Path, calls: Calls, memory: MemoryBackend
    ) -> None:
        backup = created(maintainer, bot_id)
        fill(states / bot_id, "new")

        def migrated() -> None:
            fill(states / bot_id, "migrated")
            raise StartFailedError("it does not like this state")

        memory.after("start_container", migrated)
        for _ in range(2):
            with fails_with("FAILED_PRECONDITION", "UPGRADE_ROLLED_BACK") as info:
                restored(maintainer, bot_id, backup.backup_id, "the-same")
            assert "it does not like this state" in info[0].message
        assert {"inner/file": "new", "cache/asset": "new"} == contents(states / bot_id)
        assert RUNNING == (calls.status(bot_id) or manager_pb.ContainerStatus()).state
        (failed,) = (states / MAINTENANCE_DIRECTORY / bot_id).iterdir()
        assert ("failed", "migrated") == (failed.name, contents(failed)["inner/file"])

    def test_a_new_bot_that_does_not_start_is_gone_again(
        self, maintainer: ContainerMaintainerStub, bot_id: str, states: Path, memory: MemoryBackend, bots: MemoryBots
    ) -> None:
        backup = created(maintainer, bot_id)
        memory.script("start_container", StartFailedError("no"))
        other = bots.new()
        with fails_with("FAILED_PRECONDITION", "UPGRADE_ROLLED_BACK"):
            restored(maintainer, other, backup.backup_id)
        assert memory.named(other) is None
        assert {} == contents(states / other)
        assert {"inner/file": "old"} == contents(states / MAINTENANCE_DIRECTORY / other / "failed")

    def test_a_former_state_that_cannot_be_put_back_is_kept(
        self, maintainer: ContainerMaintainerStub, bot_id: str, states: Path, memory: MemoryBackend
    ) -> None:
        backup = created(maintainer, bot_id)
        fill(states / bot_id, "new")
        memory.script("start_container", StartFailedError("no"))
        memory.script("stop_container", None, StartFailedError("stuck"))
        with fails_with("FAILED_PRECONDITION", "ROLLBACK_FAILED") as info:
            restored(maintainer, bot_id, backup.backup_id)
        (kept,) = (each for each in (states / MAINTENANCE_DIRECTORY / bot_id).iterdir() if each.name in info[0].message)
        assert {"inner/file": "new", "cache/asset": "new"} == contents(kept)

    @pytest.mark.parametrize("damage", ["flipped", "cut", "another checksum", "gone", "no file"])
    def test_a_damaged_backup_is_refused_before_anything_is_touched(  # noqa: PLR0917 - fixtures
        self,
        maintainer: ContainerMaintainerStub,
        bot_id: str,
        states: Path,
        backups: Path,
        calls: Calls,
        memory: MemoryBackend,
        damage: str,
    ) -> None:
        backup = created(maintainer, bot_id)
        fill(states / bot_id, "new")
        archive, checksum = (backups / f"{backup.backup_id}{suffix}" for suffix in (".tar.gz", ".sha256"))
        content = bytearray(archive.read_bytes())
        if damage == "another checksum":
            checksum.write_text("0" * 64)
        else:
            checksum.unlink()
            archive.unlink()
        if damage == "no file":
            archive.symlink_to("/etc/passwd")
        elif damage == "flipped":
            content[-6] ^= 1  # of the checksum of the compressed data
            archive.write_bytes(content)
        elif damage == "cut":
            archive.write_bytes(content[:-20])
        before, changes = calls.status(bot_id), memory.seen("stop_container", "start_container")
        code, reason = ("NOT_FOUND", "BACKUP_NOT_FOUND") if damage == "gone" else ("DATA_LOSS", "BACKUP_CORRUPT")
        with fails_with(code, reason):
            restored(maintainer, bot_id, backup.backup_id)
        assert {"inner/file": "new", "cache/asset": "new"} == contents(states / bot_id)
        assert before == calls.status(bot_id)
        assert changes == memory.seen("stop_container", "start_container")
        assert nothing_is_left(bot_id, states)

    @pytest.mark.parametrize("backup_id", ["../secrets", "a/b", ".", "x" * 500, "never"])
    def test_a_backup_that_is_not_there_is_not_found(
        self, maintainer: ContainerMaintainerStub, bot_id: str, backup_id: str
    ) -> None:
        with fails_with("NOT_FOUND", "BACKUP_NOT_FOUND"):
            restored(maintainer, bot_id, backup_id)


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
        assert ALL_PHASES == restored(maintainer, bot_id, made.backup_id)
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


def test_a_service_without_a_backup_root_says_so(serve_on: ServeOn, unix: str, bot_id: str, bots: MemoryBots) -> None:
    with serve_on(unix, backup_root=None) as (address,), grpc.insecure_channel(f"unix:{address[7:]}") as channel:
        maintainer = ContainerMaintainerStub(channel)
        calls: tuple[Callable[[], Any], ...] = (
            lambda: created(maintainer, bot_id),
            lambda: restored(maintainer, bot_id, "b"),
            lambda: listed(maintainer),
            lambda: maintainer.DeleteBackup(pb.DeleteBackupRequest(backup_id="b")),
        )
        for call in calls:
            with fails_with("FAILED_PRECONDITION", "BACKUP_UNAVAILABLE"):
                call()
