"""UpgradeContainer: what it changes, and what it refuses before it changes anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from container_manager import __version__
from container_manager.backend_maintenance import ImageFacts, Pulled
from container_manager.errors import ImageNotFoundError, NotSupportedByBackendError, StartFailedError
from container_manager.maintenance.backup_store import BackupStore
from container_manager.model import ContainerState, HealthStatus
from tests.rpc.backup_calls import EXITED, RUNNING
from tests.rpc.upgrade_calls import bot_to_upgrade, status_of, upgraded
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.memory_store import image_id_of
from tests.support.waiting import wait_until


@pytest.fixture
def bot_id(bots: MemoryBots, calls: Calls, states: Path) -> str:
    return bot_to_upgrade(bots, calls, states)


@pytest.fixture
def state(states: Path, bot_id: str) -> Path:
    """The bot's state."""
    return states / bot_id


PHASES = [
    pb.UPGRADE_PHASE_PULLING,
    pb.UPGRADE_PHASE_STOPPING,
    pb.UPGRADE_PHASE_BACKING_UP,
    pb.UPGRADE_PHASE_REPLACING,
    pb.UPGRADE_PHASE_WAITING_READY,
    pb.UPGRADE_PHASE_COMMITTED,
]


def test_a_running_bot_gets_the_new_image_with_its_configuration_and_state(
    maintainer: ContainerMaintainerStub, bot_id: str, calls: Calls, memory: MemoryBackend, state: Path
) -> None:
    before = status_of(calls, bot_id)
    messages = upgraded(maintainer, bot_id)
    assert PHASES == [each.phase for each in messages]
    last = messages[-1]
    assert (before.image_id, image_id_of("bot:2")) == (last.old_image_id, last.new_image_id)
    after = status_of(calls, bot_id)
    assert (RUNNING, "bot:2", last.new_image_id) == (after.state, after.image, after.image_id)
    assert before.container_id != after.container_id
    assert before.labels == after.labels
    container = memory.named(bot_id)
    assert container is not None
    assert {"A": "b"} == dict(container.config.environment)
    assert "old" == (state / "cache" / "file").read_text()
    (backup,) = maintainer.ListBackups(pb.ListBackupsRequest(bot_id=bot_id)).backups
    assert (last.backup_id, "bot:1") == (backup.backup_id, backup.image)


def test_the_archive_of_an_upgrade_is_as_that_of_a_backup(
    maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend, state: Path, backups: Path
) -> None:
    """Without what is derived, and with the names of what cannot be copied. A rollback has all of the state."""
    memory.maintenance.facts = ImageFacts((), ("inner/derived",))
    for path in ("inner/derived", "inner/file", "tmp"):
        (state / path).parent.mkdir(exist_ok=True)
        (state / path).write_text("old")
    os.mkfifo(state / "pipe")
    (state / "link").symlink_to("/etc/passwd")
    before = {path for path in state.rglob("*") if path.name != "pipe"}
    memory.after("start_container", lambda: memory.change(bot_id, health=HealthStatus.UNHEALTHY))
    with fails_with("FAILED_PRECONDITION", "UPGRADE_ROLLED_BACK"):
        upgraded(maintainer, bot_id)
    assert before == set(state.rglob("*"))
    (backup,) = maintainer.ListBackups(pb.ListBackupsRequest(bot_id=bot_id)).backups
    manifest = BackupStore(backups).manifest(backup.backup_id)
    assert ["data", "inner", "inner/file"] == [entry.path for entry in manifest.entries]
    assert ["pipe", "link"] == manifest.left_out
    assert {"container-manager": __version__} == manifest.versions


@pytest.mark.parametrize("goes_well", [True, False])
def test_the_state_stays_where_the_container_has_it_whatever_new_ones_have(
    maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend, goes_well: bool
) -> None:
    """The bot's variables may name that place, and --state-mount another one by now."""
    before = memory.named(bot_id)
    assert before is not None
    before.state_mount = "/app/state"
    if goes_well:
        upgraded(maintainer, bot_id)
    else:
        memory.script("start_container", StartFailedError("no"), None)
        with fails_with("FAILED_PRECONDITION", "UPGRADE_ROLLED_BACK"):
            upgraded(maintainer, bot_id)
    after = memory.named(bot_id)
    assert after is not None
    assert before is not after
    assert ("bot:2" if goes_well else "bot:1", "/app/state") == (after.status.image, after.state_mount)


def test_the_progress_of_the_pull_is_told_and_only_in_its_phase(
    maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend
) -> None:
    memory.maintenance.pulled = [Pulled(0, 0), Pulled(1 << 20, 3 << 20), Pulled(3 << 20, 3 << 20)]
    request = pb.UpgradeContainerRequest(bot_id=bot_id, image="bot:2", request_id="p")
    told = [each for each in maintainer.UpgradeContainer(request, timeout=60) if each.HasField("pull_progress")]
    assert {pb.UPGRADE_PHASE_PULLING} == {each.phase for each in told}
    assert (3 << 20, 3 << 20) == (told[-1].pull_progress.downloaded_bytes, told[-1].pull_progress.total_bytes)
    assert {"getting the image bot:2"} == {each.message for each in told}


def test_a_stopped_bot_is_replaced_and_not_started(
    maintainer: ContainerMaintainerStub, bot_id: str, calls: Calls
) -> None:
    calls.stop(bot_id)
    upgraded(maintainer, bot_id)
    after = status_of(calls, bot_id)
    assert "bot:2" == after.image
    assert after.state in (EXITED, manager_pb.CONTAINER_STATE_CREATED)


def test_a_bot_with_another_container_beside_its_own_is_not_upgraded(
    maintainer: ContainerMaintainerStub, bot_id: str, calls: Calls, memory: MemoryBackend
) -> None:
    """Once its own were removed, it would have the other one, and the new one could not be made."""
    before = status_of(calls, bot_id)
    memory.add(bot_id, name="botmaker-anna")
    with fails_with("FAILED_PRECONDITION", "INVALID_STATE"):
        upgraded(maintainer, bot_id)
    assert before == calls.status(bot_id)
    assert 2 == len(memory.containers)


def test_a_bot_whose_container_has_another_name_is_not_upgraded_before_its_adoption(
    maintainer: ContainerMaintainerStub, bots: MemoryBots, memory: MemoryBackend
) -> None:
    bot_id = bots.new()
    container_id = memory.add(bot_id, name="botmaker-anna")
    with fails_with("FAILED_PRECONDITION", "CONTAINER_NAME_MISMATCH") as caught:
        upgraded(maintainer, bot_id)
    assert {"bot_id": bot_id, "container_id": container_id, "name": "botmaker-anna"} == caught[0].metadata


def test_a_paused_bot_is_not_upgraded_for_it_would_run_afterwards(
    maintainer: ContainerMaintainerStub, bot_id: str, calls: Calls, memory: MemoryBackend
) -> None:
    memory.change(bot_id, state=ContainerState.PAUSED)
    paused = manager_pb.CONTAINER_STATE_PAUSED
    wait_until(lambda: paused == status_of(calls, bot_id).state, "it is paused")
    before = status_of(calls, bot_id)
    with fails_with("FAILED_PRECONDITION", "INVALID_STATE") as caught:
        upgraded(maintainer, bot_id)
    assert "stop it, or resume it" in caught[0].message
    assert before == calls.status(bot_id)
    assert [] == memory.seen("prepare_image", "stop_container")


def test_the_image_that_it_has_already_changes_nothing(
    maintainer: ContainerMaintainerStub, bot_id: str, calls: Calls
) -> None:
    before = status_of(calls, bot_id)
    assert pb.UPGRADE_PHASE_COMMITTED == upgraded(maintainer, bot_id, "bot:1")[-1].phase
    assert before == calls.status(bot_id)


def test_what_is_wrong_with_the_image_shows_before_anything_is_changed(
    maintainer: ContainerMaintainerStub, bot_id: str, calls: Calls, memory: MemoryBackend
) -> None:
    memory.maintenance.allowed_images = ("bot:*",)
    before = status_of(calls, bot_id)
    with fails_with("PERMISSION_DENIED", "IMAGE_NOT_ALLOWED"):
        upgraded(maintainer, bot_id, "other:1")
    with fails_with("INVALID_ARGUMENT", "INVALID_IMAGE_REFERENCE") as caught:
        upgraded(maintainer, bot_id, "Bot:1")
    assert ["image"] == [field for field, _ in caught[0].field_violations]
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        upgraded(maintainer, bot_id, "")
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        upgraded(maintainer, bot_id, ready_timeout={"seconds": 3601})
    memory.script("prepare_image", ImageNotFoundError("no such image"), None)
    with fails_with("FAILED_PRECONDITION", "IMAGE_NOT_FOUND"):
        upgraded(maintainer, bot_id, request_id="the-same")
    assert before == calls.status(bot_id)
    assert pb.UPGRADE_PHASE_COMMITTED == upgraded(maintainer, bot_id, request_id="the-same")[-1].phase


@pytest.mark.parametrize("backups", [None])
def test_a_bot_with_state_needs_a_backup_root_unless_the_caller_does_without(
    maintainer: ContainerMaintainerStub, bot_id: str, calls: Calls, bots: MemoryBots
) -> None:
    before = status_of(calls, bot_id)
    with fails_with("FAILED_PRECONDITION", "BACKUP_UNAVAILABLE"):
        upgraded(maintainer, bot_id)
    assert before == calls.status(bot_id)
    assert "" == upgraded(maintainer, bot_id, skip_backup=True)[-1].backup_id
    assert "bot:2" == status_of(calls, bot_id).image
    without_state = bots.new()
    calls.run(without_state, image="bot:1")
    upgraded(maintainer, without_state)
    assert "bot:2" == status_of(calls, without_state).image


def test_a_bot_whose_state_the_backend_does_not_reach_is_refused_unless_the_caller_does_without_a_copy(
    maintainer: ContainerMaintainerStub,
    bot_id: str,
    calls: Calls,
    memory: MemoryBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Never is it upgraded without the copy that the caller counts on."""

    def refuse(_: str) -> bool:
        raise NotSupportedByBackendError("it is elsewhere")

    monkeypatch.setattr(memory.states, "has_state", refuse)
    before = status_of(calls, bot_id)
    with fails_with("UNIMPLEMENTED", "NOT_SUPPORTED_BY_BACKEND"):
        upgraded(maintainer, bot_id)
    assert before == calls.status(bot_id)
    assert "" == upgraded(maintainer, bot_id, skip_backup=True)[-1].backup_id
    assert "bot:2" == status_of(calls, bot_id).image


def test_a_bot_without_a_container_is_not_found(maintainer: ContainerMaintainerStub, bots: MemoryBots) -> None:
    with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
        upgraded(maintainer, bots.new())
