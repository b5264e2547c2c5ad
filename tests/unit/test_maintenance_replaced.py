"""Somebody else gives the bot another container in the midst of maintenance: it is left exactly as it is.

As another service on the same engine may: to it, the bot has no operation in progress.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from container_manager.errors import (
    ContainerManagerError,
    InvalidStateError,
    RollbackFailedError,
    UpgradeRolledBackError,
)
from container_manager.maintenance.journal import Record
from container_manager.maintenance.task import Result, Task
from container_manager.model import ContainerState, ContainerStatus
from container_manager.operation import Operation
from tests.unit import maintenance_world
from tests.unit.maintenance_world import CONFIG, UPGRADE, World
from tests.unit.provisioned import BOT

RUNNING, CREATED = ContainerState.RUNNING, ContainerState.CREATED


class Replaced:
    """A running bot with the state ``former``, a backup of it, and somebody who replaces its container once."""

    def __init__(self, path: Path, patch: pytest.MonkeyPatch) -> None:
        self.world = World(path)
        self.world.add(BOT, "restored")
        backup = self.world.run(Record("b", "backup", BOT, {"stop_and_restart": False}))
        assert backup is not None
        self.arguments: dict[str, dict[str, Any]] = {
            "backup": {"stop_and_restart": True},
            "restore": backup,
            "upgrade": UPGRADE,
        }
        (self.world.states / BOT / "file").write_text("former")
        self._patch = patch
        self._others: ContainerStatus | None = None

    def record(self, kind: str) -> Record:
        """An operation of a kind."""
        return Record("r", kind, BOT, self.arguments[kind])

    def run(self, kind: str) -> Result | None:
        """Carry out an operation."""
        return self.world.run(self.record(kind))

    def when(self, is_it: Callable[[Record], bool], state: ContainerState) -> None:
        """Replace it as soon as such a record is on the disk, by a container in that state."""
        save = self.world.journal.save

        def saves(record: Record) -> None:
            save(record)
            if is_it(record) and self._others is None:
                self._replace(state)

        self._patch.setattr(self.world.journal, "save", saves)

    def after(self, target: Any, method: str, number: int, state: ContainerState) -> None:
        """Replace it after that call of the method from now on, by a container in that state."""
        original, numbers = getattr(target, method), itertools.count(1)

        def called() -> None:
            if next(numbers) == number:
                self._replace(state)

        def carried(operation: Operation[Any]) -> Operation[Any]:
            result = yield from operation
            called()
            return result

        def calls(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if isinstance(result, Generator):
                return carried(result)
            called()
            return result

        self._patch.setattr(target, method, calls)

    def forget_container_ids(self) -> None:
        """Have operations enter the same facts as in earlier versions."""
        enter = Task.enter

        def enters(task: Task, *args: str, container_id: str = "", **facts: Any) -> None:
            enter(task, *args, **facts)

        self._patch.setattr(Task, "enter", enters)

    def is_untouched(self) -> bool:
        """Whether the container of somebody else is there and as it was made."""
        container = self.world.memory.named(BOT)
        assert self._others is not None, "it was never replaced"
        return container is not None and container.status == self._others

    @property
    def state(self) -> str:
        """The content of the bot's state."""
        return (self.world.states / BOT / "file").read_text()

    def _replace(self, state: ContainerState) -> None:
        memory = self.world.memory
        if (container := memory.named(BOT)) is not None:
            memory.delete(container)
        memory.create(BOT, CONFIG, "somebody's")
        memory.change(BOT, state=state)
        container = memory.named(BOT)
        assert container is not None
        self._others = container.status


@pytest.fixture
def replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Replaced:
    return Replaced(tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", ["backup", "restore", "upgrade"])
def test_a_container_of_somebody_else_is_not_stopped_and_nothing_is_changed(replaced: Replaced, kind: str) -> None:
    def is_stopping(record: Record) -> bool:
        return record.phase == "stopping" or bool(record.facts.get("stopped"))

    replaced.when(is_stopping, RUNNING)
    with pytest.raises(InvalidStateError, match="now, which is left as it is: somebody else has made it meanwhile"):
        replaced.run(kind)
    assert replaced.is_untouched()
    assert ["former"] == replaced.world.everywhere(BOT)
    assert replaced.world.is_clean(BOT)
    assert None is replaced.world.journal.find("r"), "the same request begins anew"


def test_a_restore_exchanges_no_state_under_a_container_of_somebody_else(replaced: Replaced) -> None:
    replaced.when(lambda record: record.phase == "replacing", RUNNING)
    with pytest.raises(RollbackFailedError, match="which is left as it is"):
        replaced.run("restore")
    assert replaced.is_untouched()
    assert "former" == replaced.state


def test_an_upgrade_leaves_a_container_of_somebody_else_that_is_there_before_its_own(replaced: Replaced) -> None:
    replaced.when(lambda record: record.phase == "replacing", RUNNING)
    with pytest.raises(RollbackFailedError, match="which is left as it is"):
        replaced.run("upgrade")
    assert replaced.is_untouched()
    assert ["former", "former"] == replaced.world.everywhere(BOT), "the copy is kept"


@pytest.mark.parametrize("kind", ["restore", "upgrade"])
def test_a_container_of_somebody_else_is_not_started(replaced: Replaced, kind: str) -> None:
    replaced.when(lambda record: record.phase == "waiting_ready", CREATED)
    with pytest.raises(RollbackFailedError, match="which is left as it is"):
        replaced.run(kind)
    assert replaced.is_untouched()
    assert "former" in replaced.world.everywhere(BOT)


def test_a_rollback_of_a_restore_does_not_stop_a_container_of_somebody_else(replaced: Replaced) -> None:
    replaced.world.is_ready = False
    replaced.when(lambda record: record.phase == "rolling_back", RUNNING)
    with pytest.raises(RollbackFailedError, match="which is left as it is"):
        replaced.run("restore")
    assert replaced.is_untouched()
    assert "former" in replaced.world.everywhere(BOT)


def test_a_rollback_of_a_restore_exchanges_no_state_under_a_container_of_somebody_else(replaced: Replaced) -> None:
    replaced.world.is_ready = False
    replaced.after(replaced.world.memory.lifecycle, "stop_container", 2, RUNNING)
    with pytest.raises(RollbackFailedError, match="which is left as it is"):
        replaced.run("restore")
    assert replaced.is_untouched()
    assert "restored" == replaced.state
    assert "former" in replaced.world.everywhere(BOT)


@pytest.mark.parametrize(("kind", "is_well"), [("restore", True), ("upgrade", True), ("upgrade", False)])
def test_a_rollback_does_not_start_a_container_of_somebody_else(replaced: Replaced, kind: str, is_well: bool) -> None:
    world = replaced.world
    world.is_ready = False
    world.memory.change(BOT, state=RUNNING if is_well else ContainerState.RESTARTING)
    if kind == "restore":
        replaced.after(world.memory.states, "exchange", 2, CREATED)
    else:
        replaced.after(world.memory.lifecycle, "create_container", 2, CREATED)
    with pytest.raises(RollbackFailedError, match="which is left as it is"):
        replaced.run(kind)
    assert replaced.is_untouched()
    assert "former" == replaced.state


@pytest.mark.parametrize("is_well", [True, False])
def test_a_backup_does_not_start_a_container_of_somebody_else(replaced: Replaced, is_well: bool) -> None:
    """One that crashes again and again is stopped for any backup."""
    if not is_well:
        replaced.world.memory.change(BOT, state=ContainerState.RESTARTING)
        replaced.arguments["backup"] = {"stop_and_restart": False}
    replaced.after(replaced.world.memory.states, "copy_aside", 1, CREATED)
    assert replaced.run("backup") is not None
    assert replaced.is_untouched()


@pytest.mark.parametrize("is_of_earlier_version", [False, True])
def test_a_restore_that_has_made_the_container_does_not_stop_one_of_somebody_else(
    replaced: Replaced, is_of_earlier_version: bool
) -> None:
    world = replaced.world
    if is_of_earlier_version:
        replaced.forget_container_ids()
    found = world.memory.named(BOT)
    assert found is not None
    world.memory.delete(found)
    replaced.after(world.memory.lifecycle, "create_container", 1, RUNNING)
    with pytest.raises(InvalidStateError, match="which is left as it is"):
        replaced.run("restore")
    assert replaced.is_untouched()
    assert ["former"] == world.everywhere(BOT)
    assert world.is_clean(BOT)


def test_a_restore_that_an_earlier_version_began_goes_on_with_the_container_that_is_there(
    replaced: Replaced,
) -> None:
    """Its record does not say which one it found."""
    world = replaced.world
    replaced.forget_container_ids()
    steps = itertools.count()
    while "stopping" not in [record.phase for record in world.journal.unfinished()]:
        assert world.run(replaced.record("restore"), next(steps)) is None
    container = world.memory.named(BOT)
    assert container is not None
    world.memory.delete(container)
    world.memory.create(BOT, CONFIG, "somebody's")
    world.restart()
    assert (RUNNING, "restored") == (world.state(BOT), replaced.state)


def test_only_the_log_of_the_upgrades_own_container_is_shown(
    replaced: Replaced, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def log(container_id: str) -> Operation[list[str]]:
        yield from ()
        read.append(container_id)
        return ["a line of somebody else"]

    monkeypatch.setattr(maintenance_world, "_no_log", log)
    replaced.when(lambda record: record.phase == "waiting_ready", CREATED)
    with pytest.raises(ContainerManagerError) as failed:
        replaced.run("upgrade")
    assert [] == read
    assert "a line of" not in str(failed.value)


def test_the_log_of_the_upgrades_own_container_is_shown(replaced: Replaced, monkeypatch: pytest.MonkeyPatch) -> None:
    def log(_container_id: str) -> Operation[list[str]]:
        yield from ()
        return ["cannot open the database"]

    monkeypatch.setattr(maintenance_world, "_no_log", log)
    replaced.world.is_ready = False
    with pytest.raises(UpgradeRolledBackError, match="cannot open the database"):
        replaced.run("upgrade")
