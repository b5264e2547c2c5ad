"""RestoreBackup: what goes back and when, what is refused, and that the former state stays until the bot is ready."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from container_manager.backend_maintenance import Pulled
from container_manager.errors import ImageNotFoundError, StartFailedError
from container_manager.model import ContainerState, container_name
from container_manager.provisioning.host_states import MAINTENANCE_DIRECTORY
from tests.rpc.backup_calls import (
    EXITED,
    PAUSED,
    RESTORE_PHASES,
    RUNNING,
    bot_with_state,
    contents,
    created,
    fill,
    nothing_is_left,
    restored,
)
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.waiting import wait_until
from tests.unit.archives import CONFIG, MANIFEST, archive_of, put


@pytest.fixture
def bot_id(bots: MemoryBots, calls: Calls, states: Path) -> str:
    return bot_with_state(bots, calls, states)


def test_a_running_bot_gets_its_state_back(
    maintainer: ContainerMaintainerStub, bot_id: str, states: Path, calls: Calls
) -> None:
    backup = created(maintainer, bot_id)
    before = calls.status(bot_id)
    fill(states / bot_id, "new")
    assert RESTORE_PHASES == restored(maintainer, bot_id, backup.backup_id)
    assert {"inner/file": "old"} == contents(states / bot_id)
    after = calls.status(bot_id)
    assert before is not None
    assert after is not None
    assert (before.container_id, RUNNING) == (after.container_id, after.state)
    assert after.start_time.ToNanoseconds() > before.start_time.ToNanoseconds()
    assert nothing_is_left(bot_id, states)


def test_a_stopped_bot_ends_stopped(
    maintainer: ContainerMaintainerStub, bot_id: str, states: Path, calls: Calls
) -> None:
    backup = created(maintainer, bot_id)
    calls.stop(bot_id)
    fill(states / bot_id, "new")
    restored(maintainer, bot_id, backup.backup_id)
    assert {"inner/file": "old"} == contents(states / bot_id)
    assert EXITED == (calls.status(bot_id) or manager_pb.ContainerStatus()).state


def test_a_paused_bot_is_not_touched_for_it_would_run_afterwards(
    maintainer: ContainerMaintainerStub, bot_id: str, states: Path, memory: MemoryBackend, calls: Calls
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
    maintainer: ContainerMaintainerStub, bot_id: str, states: Path, bots: MemoryBots, memory: MemoryBackend
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
    maintainer: ContainerMaintainerStub, bot_id: str, bots: MemoryBots, memory: MemoryBackend
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
    maintainer: ContainerMaintainerStub, calls: Calls, bots: MemoryBots, memory: MemoryBackend
) -> None:
    former, other = bots.new(), bots.new()
    calls.create(former, network=container_name(former))
    restored(maintainer, other, created(maintainer, former).backup_id)
    made = memory.named(other)
    assert made is not None
    assert container_name(other) == made.config.network


def test_a_bot_that_cannot_be_made_is_not_touched(
    maintainer: ContainerMaintainerStub, bot_id: str, states: Path, bots: MemoryBots
) -> None:
    backup = created(maintainer, bot_id)
    other = bots.bare()
    fill(states / other, "mine")
    with fails_with("FAILED_PRECONDITION", "SECRETS_UNAVAILABLE"):
        restored(maintainer, other, backup.backup_id)
    assert {"inner/file": "mine", "cache/asset": "mine"} == contents(states / other)
    assert nothing_is_left(other, states)


def test_a_description_that_no_service_would_write_is_refused(
    maintainer: ContainerMaintainerStub, bots: MemoryBots, backups: Path, states: Path
) -> None:
    bot_id = bots.new()
    config = replace(CONFIG, environment=[3])  # type: ignore[arg-type]
    put(backups, archive_of([], manifest=replace(MANIFEST, config=config)))
    with fails_with("DATA_LOSS", "BACKUP_CORRUPT"):
        restored(maintainer, bot_id, "backup")
    assert nothing_is_left(bot_id, states)


def test_a_bot_that_does_not_start_gets_its_former_state_back(
    maintainer: ContainerMaintainerStub, bot_id: str, states: Path, calls: Calls, memory: MemoryBackend
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
    maintainer: ContainerMaintainerStub, bot_id: str, states: Path, memory: MemoryBackend, bots: MemoryBots
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
    maintainer: ContainerMaintainerStub, bot_id: str, states: Path, memory: MemoryBackend
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


@pytest.mark.parametrize("backup_id", ["../secrets", "a/b", ".", "x" * 128, "never"])
def test_a_backup_that_is_not_there_is_not_found(
    maintainer: ContainerMaintainerStub, bot_id: str, backup_id: str
) -> None:
    with fails_with("NOT_FOUND", "BACKUP_NOT_FOUND"):
        restored(maintainer, bot_id, backup_id)
