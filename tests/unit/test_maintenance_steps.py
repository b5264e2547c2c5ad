"""What the steps of maintenance report, allow and refuse."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from container_manager.errors import InvalidStateError, NotSupportedByBackendError, UpgradeRolledBackError
from container_manager.maintenance import task as task_module
from container_manager.maintenance.journal import Record
from container_manager.model import ContainerState
from container_manager.operation import Operation
from tests.unit.maintenance_world import UPGRADE, World
from tests.unit.provisioned import BOT


def test_a_backup_and_a_restore_tell_how_many_bytes_of_how_many_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_module, "_REPORT_SECONDS", 0)
    world = World(tmp_path)
    world.add(BOT, "content")
    (world.states / BOT / "large").write_bytes(os.urandom(8 << 20))
    total = len("content") + (8 << 20)
    backup = world.run(Record("b", "backup", BOT, {"stop_and_restart": False}))
    assert backup is not None
    world.run(Record("r", "restore", BOT, {"backup_id": backup["backup_id"]}))
    for phase in ("archiving", "verifying"):
        told = [each for each in world.reports if each.phase == phase and each.total_bytes]
        done = [each.done_bytes for each in told]
        assert ({total}, total) == ({each.total_bytes for each in told}, done[-1]), phase
        assert done == sorted(done)
        assert len(set(done)) > 4, "the file is large"


@pytest.mark.parametrize(("allowed", "after_rollback"), [(1.0, 120.0), (300.0, 300.0)])
def test_a_rollback_gives_the_old_image_no_less_time_than_the_upgrade_gave_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: float, after_rollback: float
) -> None:
    world = World(tmp_path)
    world.add(BOT, "former")
    world.is_ready = False
    waits, ready = [], world._ready

    def waited(bot_id: str, seconds: float, on_wait: Callable[[str], None]) -> Operation[str]:
        waits.append(seconds)
        return (yield from ready(bot_id, seconds, on_wait))

    monkeypatch.setattr(world, "_ready", waited)
    with pytest.raises(UpgradeRolledBackError):
        world.run(Record("r", "upgrade", BOT, {**UPGRADE, "ready_seconds": allowed}))
    assert [allowed, after_rollback] == waits


def test_an_upgrade_with_a_grace_period_that_the_backend_cannot_give_is_refused_and_changes_nothing(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    world.add(BOT, "old")
    world.memory.script("stop_container", NotSupportedByBackendError("no such grace period", field="grace_period"))
    with pytest.raises(NotSupportedByBackendError):
        world.run(Record("r", "upgrade", BOT, UPGRADE))
    assert ContainerState.RUNNING is world.state(BOT)
    assert None is world.journal.find("r")
    assert world.is_clean(BOT)


@pytest.mark.parametrize("kind", ["backup", "restore", "upgrade"])
def test_a_bot_that_is_being_removed_is_refused_and_nothing_is_changed(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path)
    world.add(BOT, "old")
    backup = world.run(Record("b", "backup", BOT, {"stop_and_restart": False}))
    assert backup is not None
    world.memory.change(BOT, state=ContainerState.REMOVING)
    (world.states / BOT / "file").write_text("newer")
    changes = ("stop_container", "remove_container", "create_container", "start_container")
    before = world.memory.seen(*changes)
    arguments = {"backup": {"stop_and_restart": True}, "restore": backup, "upgrade": UPGRADE}[kind]
    with pytest.raises(InvalidStateError, match="being removed"):
        world.run(Record("r", kind, BOT, arguments))
    assert before == world.memory.seen(*changes)
    assert (ContainerState.REMOVING, ["newer"]) == (world.state(BOT), world.everywhere(BOT))
    assert [backup["backup_id"]] == world.archives()
    assert world.is_clean(BOT)


def test_an_upgrade_that_is_continued_goes_on_though_its_container_is_being_removed(tmp_path: Path) -> None:
    """It is the upgrade itself that removes it."""
    for last in range(1000):
        path = tmp_path / str(last)
        path.mkdir()
        world = World(path)
        world.add(BOT, "old")
        assert world.run(Record("r", "upgrade", BOT, UPGRADE), last) is None, "it was killed"
        if [record.phase for record in world.journal.unfinished()] == ["replacing"]:
            break
    world.memory.change(BOT, state=ContainerState.REMOVING)
    world.restart()
    config = world.config(BOT)
    assert (ContainerState.RUNNING, "bot:2") == (world.state(BOT), config and config.image)
