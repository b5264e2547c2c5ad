"""The service is killed between any two steps of an operation: the next one finishes it, and nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY, Mock

import pytest

from container_manager.errors import InternalError, UpgradeRolledBackError
from container_manager.maintenance.journal import Record
from container_manager.maintenance.long_runs import LoopWaits
from container_manager.model import ContainerState
from tests.support.memory_store import image_id_of
from tests.unit.maintenance_world import UPGRADE, World
from tests.unit.provisioned import BOT, OTHER


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory, where nothing waits for a disk."""
    in_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as directory:
        yield Path(directory)


def worlds(tmp_path: Path) -> Iterator[tuple[int, World]]:
    """A new machine for each step at which a service may be killed."""
    for step in itertools.count():
        path = tmp_path / str(step)
        path.mkdir()
        yield step, World(path)
        shutil.rmtree(path)


@pytest.mark.parametrize("stop_and_restart", [False, True])
def test_a_killed_backup_lets_the_bot_go_on_and_is_made_after_all(tmp_path: Path, stop_and_restart: bool) -> None:
    record = Record("r", "backup", BOT, {"stop_and_restart": stop_and_restart})
    made_and_killed = 0
    for step, world in worlds(tmp_path):
        world.add(BOT, "old")
        ended = world.run(record, step) is not None
        is_made = any("made" in each.facts for each in world.journal.unfinished())
        found = world.restart()
        assert ContainerState.RUNNING is world.state(BOT)
        assert ["old"] == world.everywhere(BOT)
        assert world.is_clean(BOT)
        assert not (ended or is_made) or 1 == len(world.archives()), "it is made once"
        made_and_killed += is_made
        assert ended or (world.journal.find("r") or record).outcome is not None or found == []
        assert len(world.archives()) >= len(found)
        if ended:
            assert step > 20
            assert made_and_killed
            break


@pytest.mark.parametrize("stop_and_restart", [False, True])
def test_a_backup_that_is_killed_again_ends_with_an_error_and_lets_the_bot_go_on(
    tmp_path: Path, stop_and_restart: bool
) -> None:
    """It may itself be what ends the service, each time."""
    record = Record("r", "backup", BOT, {"stop_and_restart": stop_and_restart})
    ends = set()
    for step, world in worlds(tmp_path):
        world.add(BOT, "old")
        world.journal.save(replace(record, phase="copying"))
        (found,) = world.journal.unfinished()
        if world.run(found, step) is not None:
            break
        for again in world.journal.unfinished():
            is_given_up = again.facts.get("begins_anew") and "made" not in again.facts
            with pytest.raises(InternalError, match="ended twice") if is_given_up else nullcontext():
                world.run(again)
            ended = world.journal.find("r")
            ends.add((again.phase, "error" in ((ended and ended.outcome) or {})))
        assert ContainerState.RUNNING is world.state(BOT)
        assert ["old"] == world.everywhere(BOT)
        assert world.is_clean(BOT)
    assert {("copying", False), ("copying", True), ("archiving", True), ("archiving", False)} == ends


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("is_ready", [False, True])
def test_a_killed_restore_is_finished_or_rolled_back(tmp_path: Path, running: bool, is_ready: bool) -> None:
    """A bot that is stopped is not asked whether it is ready. What it has made of the restored state is kept."""
    goes_well = is_ready or not running
    for step, world in worlds(tmp_path):
        world.add(BOT, "restored", running=running)
        backup = world.run(Record("b", "backup", BOT, {"stop_and_restart": False}))
        assert backup is not None
        (world.states / BOT / "file").write_text("former")
        world.keep_failed(BOT, "older")
        world.is_ready = is_ready
        record = Record("r", "restore", BOT, {"backup_id": backup["backup_id"]})
        killed = True
        try:
            killed = world.run(record, step) is None
        except UpgradeRolledBackError:
            killed = False
        assert goes_well or "former" in world.everywhere(BOT)
        assert {"former", "restored"} & set(world.everywhere(BOT)), "the only copy is gone"
        found = world.restart()
        changed = bool(found or not killed or world.journal.find("r"))
        state, kept = ("restored", "older") if goes_well else ("former", "restored")
        assert ([state, kept] if changed else ["former", "older"]) == world.everywhere(BOT), step
        assert [backup["backup_id"]] == world.archives()
        assert (ContainerState.RUNNING if running else ANY) == world.state(BOT)
        assert running or world.state(BOT) in (ContainerState.CREATED, ContainerState.EXITED)
        assert world.has_only_failed(BOT)
        if not killed:
            assert step > 20
            break


@pytest.mark.parametrize("is_ready", [False, True])
def test_a_killed_restore_to_a_new_bot_makes_it_or_leaves_only_the_state_that_failed(
    tmp_path: Path, is_ready: bool
) -> None:
    for step, world in worlds(tmp_path):
        world.add(BOT, "restored")
        backup = world.run(Record("b", "backup", BOT, {"stop_and_restart": False}))
        assert backup is not None
        world.is_ready = is_ready
        record = Record("r", "restore", OTHER, {"backup_id": backup["backup_id"]})
        killed = True
        try:
            killed = world.run(record, step) is None
        except UpgradeRolledBackError:
            killed = False
        found = world.restart()
        made = is_ready and bool(found or not killed or world.journal.find("r"))
        kept = [] if made or not (found or not killed or world.journal.find("r")) else ["failed"]
        assert kept == world.asides(OTHER), step
        assert (["restored"] if made or kept else []) == world.everywhere(OTHER), step
        assert (ContainerState.RUNNING if made else None) == world.state(OTHER)
        assert (world.config(BOT) if made else None) == world.config(OTHER)
        assert [backup["backup_id"]] == world.archives()
        assert [] == world.journal.unfinished()
        if not killed:
            assert step > 20
            break


def test_an_upgrade_whose_service_ends_while_a_step_runs_is_finished_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker thread is in the middle of a step when the event loop ends; it is no failure of the upgrade."""
    waits = LoopWaits(Mock(), Mock(), Mock(), Mock())
    waits.loop = asyncio.new_event_loop()
    waits.loop.close()
    world = World(tmp_path)
    world.add(BOT, "old")
    with monkeypatch.context() as context:
        context.setattr(world, "_ready", waits.ready)
        with pytest.raises(asyncio.CancelledError):
            world.run(Record("r", "upgrade", BOT, UPGRADE))
    assert ["waiting_ready"] == [record.phase for record in world.restart()]
    container = world.memory.named(BOT)
    assert container is not None
    assert (ContainerState.RUNNING, "bot:2") == (container.status.state, container.status.image)


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("is_ready", [False, True])
def test_a_killed_upgrade_is_finished_or_rolled_back(tmp_path: Path, running: bool, is_ready: bool) -> None:
    """The new image migrates the state when it starts. A bot that is stopped is not started."""
    goes_well = is_ready or not running
    for step, world in worlds(tmp_path):
        world.add(BOT, "former", running=running)
        world.keep_failed(BOT, "older")
        world.is_ready = is_ready
        before = world.config(BOT)
        assert before is not None
        record = Record("r", "upgrade", BOT, UPGRADE)
        killed = True
        try:
            killed = world.run(record, step) is None
        except UpgradeRolledBackError:
            killed = False
        assert goes_well or "former" in world.everywhere(BOT)
        found = world.restart()
        changed = bool(found or not killed or world.journal.find("r"))
        container = world.memory.named(BOT)
        assert container is not None
        expected = "bot:2" if goes_well and changed else "bot:1"
        assert (expected, image_id_of(expected)) == (container.status.image, container.status.image_id), step
        assert replace(before, image=expected) == container.config, step
        assert len(world.archives()) >= changed
        assert running is (container.status.state is ContainerState.RUNNING)
        assert ("migrated" if running and expected == "bot:2" else "former") == (
            world.states / BOT / "file"
        ).read_text()
        assert world.has_only_failed(BOT)
        assert ("older" if goes_well or not changed else "migrated") == world.everywhere(BOT)[1], step
        if not killed:
            assert step > 30
            assert 1 == len(world.store.list(BOT))
            break
