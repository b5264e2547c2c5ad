"""An upgrade that fails: how everything is put back, and what is said and kept where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from container_manager.errors import InvalidStateError, NotSupportedByBackendError, StartFailedError
from container_manager.model import ContainerState, HealthStatus
from tests.rpc.backup_calls import EXITED, RUNNING
from tests.rpc.upgrade_calls import bot_to_upgrade, status_of, upgraded
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots


@pytest.fixture
def bot_id(bots: MemoryBots, calls: Calls, states: Path) -> str:
    return bot_to_upgrade(bots, calls, states)


@pytest.fixture
def state(states: Path, bot_id: str) -> Path:
    """The bot's state."""
    return states / bot_id


def test_a_stopped_bot_whose_new_container_cannot_be_made_stays_stopped_on_its_old_image(
    maintainer: ContainerMaintainerStub, bot_id: str, calls: Calls, memory: MemoryBackend, state: Path
) -> None:
    calls.stop(bot_id)
    starts = memory.seen("start_container")
    memory.script("create_container", InvalidStateError("no"), None)
    with fails_with("FAILED_PRECONDITION", "UPGRADE_ROLLED_BACK"):
        upgraded(maintainer, bot_id)
    assert "bot:1" == status_of(calls, bot_id).image
    assert status_of(calls, bot_id).state in (EXITED, manager_pb.CONTAINER_STATE_CREATED)
    assert starts == memory.seen("start_container")
    assert "old" == (state / "data").read_text()


def test_a_bot_that_is_not_ready_is_as_it_was_and_the_failed_state_is_kept(  # noqa: PLR0917 - fixtures
    maintainer: ContainerMaintainerStub, bot_id: str, calls: Calls, memory: MemoryBackend, state: Path, states: Path
) -> None:
    before = status_of(calls, bot_id)

    def migrated() -> None:
        (state / "cache" / "file").write_text("migrated")
        memory.write(bot_id, b"cannot read the database")
        memory.change(bot_id, health=HealthStatus.UNHEALTHY)

    memory.after("start_container", migrated)
    for _ in range(2):
        with fails_with("FAILED_PRECONDITION", "UPGRADE_ROLLED_BACK") as info:
            upgraded(maintainer, bot_id, request_id="the-same")
        assert "its health check fails" in info[0].message
        assert "cannot read the database" in info[0].message
    after = status_of(calls, bot_id)
    assert (RUNNING, "bot:1", before.image_id) == (after.state, after.image, after.image_id)
    assert "old" == (state / "cache" / "file").read_text()
    kept = states / ".maintenance" / bot_id
    assert ["failed"] == [path.name for path in kept.iterdir()]
    assert "migrated" == (kept / "failed" / "cache" / "file").read_text()


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ({"state": ContainerState.RESTARTING}, "UPGRADE_ROLLED_BACK"),
        ({"health": HealthStatus.UNHEALTHY}, "UPGRADE_ROLLED_BACK"),
        ({"health": HealthStatus.HEALTHY}, "ROLLBACK_FAILED"),
    ],
)
def test_a_bot_that_was_not_well_before_need_not_be_ready_after_the_rollback(  # noqa: PLR0917 - fixtures
    maintainer: ContainerMaintainerStub, bot_id: str, calls: Calls, memory: MemoryBackend, before: Any, reason: str
) -> None:
    """It is started in any case. A bot that was well has not been put back if it is not ready."""

    def unhealthy() -> None:
        memory.change(bot_id, health=HealthStatus.UNHEALTHY)
        memory.after("start_container", unhealthy)

    memory.change(bot_id, **before)
    memory.after("start_container", unhealthy)
    with fails_with("FAILED_PRECONDITION", reason):
        upgraded(maintainer, bot_id)
    assert (RUNNING, "bot:1") == (status_of(calls, bot_id).state, status_of(calls, bot_id).image)


def test_a_rollback_leaves_a_container_its_own_grace_period_where_the_backend_gives_no_other(
    maintainer: ContainerMaintainerStub,
    bot_id: str,
    calls: Calls,
    memory: MemoryBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remove = memory.lifecycle.remove_container

    def own_only(bot_id: str, grace_seconds: int | None = None, **known: Any) -> Any:
        if grace_seconds is not None:
            raise NotSupportedByBackendError("the container has a grace period of its own", field="grace_period")
        return remove(bot_id, grace_seconds, **known)

    monkeypatch.setattr(memory.lifecycle, "remove_container", own_only)
    memory.after("start_container", lambda: memory.change(bot_id, health=HealthStatus.UNHEALTHY))
    with fails_with("FAILED_PRECONDITION", "UPGRADE_ROLLED_BACK"):
        upgraded(maintainer, bot_id)
    assert (RUNNING, "bot:1") == (status_of(calls, bot_id).state, status_of(calls, bot_id).image)


def test_a_bot_whose_state_cannot_be_backed_up_keeps_its_container(
    maintainer: ContainerMaintainerStub, bot_id: str, calls: Calls, states: Path, backups: Path
) -> None:
    before = status_of(calls, bot_id)
    backups.rmdir()
    with fails_with("FAILED_PRECONDITION", "UPGRADE_ROLLED_BACK") as info:
        upgraded(maintainer, bot_id)
    assert "the backup root" in info[0].message
    after = status_of(calls, bot_id)
    assert (before.container_id, RUNNING) == (after.container_id, after.state)
    assert not (states / ".maintenance" / bot_id).exists(), "a copy that nobody needs takes room"


def test_a_bot_that_cannot_be_put_back_says_where_its_state_is(
    maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend, states: Path
) -> None:
    memory.script("start_container", StartFailedError("the engine says no"))
    with fails_with("FAILED_PRECONDITION", "ROLLBACK_FAILED") as info:
        upgraded(maintainer, bot_id)
    assert "the engine says no" in info[0].message
    assert "former-" in info[0].message
    kept = states / ".maintenance" / bot_id
    assert {"failed"} == {path.name for path in kept.iterdir()}
    assert ContainerState.CREATED is (memory.named(bot_id) or pytest.fail("it is gone")).status.state


def test_a_bot_that_cannot_be_put_back_is_restored_as_the_message_says(
    maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend, calls: Calls, state: Path
) -> None:
    """The container is gone, and so would be its configuration."""
    memory.script("create_container", StartFailedError("the engine says no"))
    with fails_with("FAILED_PRECONDITION", "ROLLBACK_FAILED") as info:
        upgraded(maintainer, bot_id)
    message = info[0].message
    assert memory.named(bot_id) is None
    (record,) = (word.rstrip(".") for word in message.split() if ".operations/" in word)
    assert {"A": "b"} == json.loads(Path(record).read_text())["facts"]["config"]["environment"]
    (backup,) = maintainer.ListBackups(pb.ListBackupsRequest(bot_id=bot_id)).backups
    assert f"restore the backup {backup.backup_id}" in message
    (state / "data").write_text("whatever happened since")
    memory.script("create_container", None)
    request = pb.RestoreBackupRequest(bot_id=bot_id, backup_id=backup.backup_id, request_id="again")
    assert pb.RESTORE_PHASE_COMMITTED == [*maintainer.RestoreBackup(request, timeout=60)][-1].phase
    container = memory.named(bot_id)
    assert container is not None
    assert (ContainerState.RUNNING, "bot:1") == (container.status.state, container.status.image)
    assert {"A": "b"} == dict(container.config.environment)
    assert "old" == (state / "data").read_text()


def test_a_bot_without_a_copy_that_cannot_be_put_back_has_its_configuration_in_the_record(
    maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend
) -> None:
    memory.script("create_container", StartFailedError("the engine says no"))
    with fails_with("FAILED_PRECONDITION", "ROLLBACK_FAILED") as info:
        upgraded(maintainer, bot_id, skip_backup=True)
    assert "restore the backup" not in info[0].message
    assert ".operations/" in info[0].message
