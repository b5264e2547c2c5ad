"""Copies beside a bot's state: services with the same states leave each other's, and a lost one is no outcome."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest

from container_manager.errors import RollbackFailedError, UpgradeRolledBackError
from container_manager.maintenance.journal import Journal, Record
from container_manager.maintenance.task import Report
from container_manager.model import ContainerState
from container_manager.provisioning.host_states import MAINTENANCE_DIRECTORY
from tests.unit.maintenance_world import UPGRADE, World
from tests.unit.provisioned import BOT, OTHER


def world_with_backup(path: Path) -> tuple[World, str]:
    """A bot whose state is other than in its backup, and the id of that."""
    path.mkdir(exist_ok=True)
    world = World(path)
    world.add(BOT, "restored")
    backup = world.run(Record("b", "backup", BOT, {"stop_and_restart": False}))
    assert backup is not None
    (world.states / BOT / "file").write_text("former")
    return world, str(backup["backup_id"])


def record_of(kind: str, backup_id: str, bot_id: str = BOT) -> Record:
    """An operation of a kind."""
    arguments = {"backup": {"stop_and_restart": True}, "restore": {"backup_id": backup_id}, "upgrade": UPGRADE}
    return Record("r", kind, bot_id, arguments[kind])


@pytest.mark.parametrize(("kind", "expected"), [("backup", "former"), ("restore", "restored"), ("upgrade", "migrated")])
def test_a_service_with_the_same_states_that_starts_at_any_moment_disturbs_no_operation(
    tmp_path: Path, kind: str, expected: str
) -> None:
    for step in itertools.count():
        world, backup_id = world_with_backup(tmp_path / str(step))
        starts: list[int] = []

        def start(world: World = world, starts: list[int] = starts) -> None:
            starts.append(1)
            world.start_other()

        assert world.run(record_of(kind, backup_id), step, start) is not None
        assert expected == (world.states / BOT / "file").read_text(), step
        assert (1 if kind == "restore" else 2) == len(world.archives())
        assert world.is_clean(BOT)
        shutil.rmtree(tmp_path / str(step))
        if not starts:
            assert step > 20
            break


class LosesCopies(list[Report]):
    """Removes all copies beside a bot's state when an operation enters a phase."""

    def __init__(self, world: World, bot_id: str, phase: str) -> None:
        super().__init__()
        self._asides = world.states / MAINTENANCE_DIRECTORY / bot_id
        self._phase = phase

    def append(self, report: Report) -> None:
        if self._phase == report.phase and self._asides.exists():
            shutil.rmtree(self._asides)
        super().append(report)


@pytest.mark.parametrize(
    ("kind", "phase", "is_ready", "error", "expected"),
    [
        ("restore", "stopping", True, UpgradeRolledBackError, "former"),
        ("restore", "replacing", True, UpgradeRolledBackError, "former"),
        ("restore", "waiting_ready", True, None, "restored"),
        ("restore", "waiting_ready", False, RollbackFailedError, "restored"),
        ("upgrade", "replacing", True, UpgradeRolledBackError, "former"),
        ("upgrade", "waiting_ready", True, None, "migrated"),
        ("upgrade", "waiting_ready", False, RollbackFailedError, "migrated"),
    ],
)
def test_an_operation_whose_copies_are_lost_says_which_state_the_bot_has(  # noqa: PLR0917 - parameters
    tmp_path: Path, kind: str, phase: str, is_ready: bool, error: type[Exception] | None, expected: str
) -> None:
    world, backup_id = world_with_backup(tmp_path)
    world.reports = LosesCopies(world, BOT, phase)
    world.is_ready = is_ready
    if error is None:
        assert {} == world.run(record_of(kind, backup_id))
    else:
        with pytest.raises(error, match=r"(not there|not beside the bot's state) any more"):
            world.run(record_of(kind, backup_id))
    assert expected == (world.states / BOT / "file").read_text()
    container = world.memory.named(BOT)
    if error is UpgradeRolledBackError:
        assert container is not None
        assert ("bot:1", ContainerState.RUNNING) == (container.status.image, container.status.state)
    assert [] == world.journal.unfinished()


@pytest.mark.parametrize("bot_id", [BOT, OTHER])
def test_a_bot_without_a_state_whose_restored_one_is_lost_has_none(tmp_path: Path, bot_id: str) -> None:
    """Also one that the restore makes."""
    world, backup_id = world_with_backup(tmp_path)
    if (world.states / bot_id).exists():
        shutil.rmtree(world.states / bot_id)
    world.reports = LosesCopies(world, bot_id, "replacing")
    with pytest.raises(UpgradeRolledBackError, match="not there any more"):
        world.run(record_of("restore", backup_id, bot_id))
    assert [] == world.everywhere(bot_id)
    assert (ContainerState.RUNNING if bot_id == BOT else None) == world.state(bot_id)


def test_a_journal_has_an_identity_of_its_own_that_lasts(tmp_path: Path) -> None:
    """Two services that take over from each other have the same one."""

    def journal(name: str) -> Journal:
        (tmp_path / name).mkdir(exist_ok=True)
        return Journal(tmp_path / name)

    identities = [journal(name).identity() for name in ("a", "a", "b")]
    assert identities[0] == identities[1]
    assert 2 == len({each for each in identities if each})
