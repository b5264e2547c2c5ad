"""Maintenance with a full disk, an engine that is away, or a bug: the operation goes on, or the bot is put back."""

from __future__ import annotations

import errno
import json
import os
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from container_manager.bot_directories import BotUser
from container_manager.errors import (
    CapacityExceededError,
    ContainerManagerError,
    EngineUnavailableError,
    InternalError,
    InvalidStateError,
    OperationInProgressError,
    RollbackFailedError,
    StateTooLargeError,
    StateUnavailableError,
    UpgradeRolledBackError,
)
from container_manager.maintenance import journal as journal_module
from container_manager.maintenance import steps
from container_manager.maintenance import task as task_module
from container_manager.maintenance.journal import Journal, JournalUnavailableError, Record
from container_manager.maintenance.steps import Means
from container_manager.maintenance.task import Result, Task
from container_manager.model import ContainerState
from container_manager.operation import Operation
from tests.unit.maintenance_world import CONFIG, UPGRADE, World
from tests.unit.provisioned import BOT, OTHER

USER = BotUser(os.geteuid(), os.getegid())


@pytest.fixture(autouse=True)
def _without_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_module, "_AGAIN_SECONDS", 0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def _full(*_: object) -> None:
    raise CapacityExceededError("no room")


def test_an_engine_that_goes_away_for_a_while_does_not_end_a_restore(world: World) -> None:
    world.add(BOT, "restored")
    backup = world.run(Record("b", "backup", BOT, {"stop_and_restart": False}))
    assert backup is not None
    (world.states / BOT / "file").write_text("former")
    world.memory.script("stop_container", EngineUnavailableError("away"), None)
    assert {} == world.run(Record("r", "restore", BOT, {"backup_id": backup["backup_id"]}))
    assert ["restored"] == world.everywhere(BOT)


def test_a_full_disk_before_the_first_phase_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add(BOT, "former")
    monkeypatch.setattr(Journal, "save", _full)
    with pytest.raises(CapacityExceededError):
        world.run(Record("r", "upgrade", BOT, UPGRADE))
    assert ContainerState.RUNNING is world.state(BOT)
    assert world.is_clean(BOT)


@pytest.mark.parametrize("is_ready", [True, False])
def test_an_operation_ends_once_the_disk_has_room_for_its_outcome(
    world: World, monkeypatch: pytest.MonkeyPatch, is_ready: bool
) -> None:
    world.add(BOT, "former")
    world.is_ready = is_ready
    save, refused = Journal.save, []

    def full_for_a_while(journal: Journal, record: Record) -> None:
        if record.outcome is not None and len(refused) < 3:
            refused.append(record.phase)
            _full()
        save(journal, record)

    monkeypatch.setattr(Journal, "save", full_for_a_while)
    with nullcontext() if is_ready else pytest.raises(UpgradeRolledBackError):
        world.run(Record("r", "upgrade", BOT, UPGRADE))
    assert 3 == len(refused)
    assert [] == world.journal.unfinished()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.ESTALE])
@pytest.mark.parametrize("phase", ["backing_up", "replacing", "waiting_ready", "committed"])
def test_an_upgrade_goes_on_once_its_record_can_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch, phase: str, number: int
) -> None:
    """Neither its phase nor the decision to go back can be written for a while."""
    world.add(BOT, "former")
    world.journal.identity()  # a service has it from its start
    write, refused = journal_module.write_file, []

    def fails_for_a_while(name: str, parent: int, content: bytes, user: BotUser) -> None:
        record = json.loads(content)
        if record["phase"] in {phase, "rolling_back"} and record["outcome"] is None and len(refused) < 4:
            refused.append(record["phase"])
            raise OSError(number, os.strerror(number))
        write(name, parent, content, user)

    monkeypatch.setattr(journal_module, "write_file", fails_for_a_while)
    with suppress(UpgradeRolledBackError):
        world.run(Record("r", "upgrade", BOT, UPGRADE))
    assert 4 == len(refused)
    assert ContainerState.RUNNING is world.state(BOT)
    assert [] == world.journal.unfinished()


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("upgrade", "remove_container"),
        ("upgrade", "create_container"),
        ("upgrade", "start_container"),
        ("restore", "stop_container"),
        ("restore", "start_container"),
    ],
)
@pytest.mark.parametrize("error", [EngineUnavailableError("away"), CapacityExceededError("no space left on device")])
def test_a_rollback_waits_for_an_engine_that_is_away_for_long_and_for_room_on_the_disk(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str, method: str, error: ContainerManagerError
) -> None:
    monkeypatch.setattr(steps, "_PATIENCE_SECONDS", 0)
    world.add(BOT, "restored")
    backup = world.run(Record("b", "backup", BOT, {"stop_and_restart": False}))
    assert backup is not None
    (world.states / BOT / "file").write_text("former")
    world.is_ready = False
    # Before the rollback, the call succeeds once.
    world.memory.script(method, None, error, error, None)
    with pytest.raises(UpgradeRolledBackError):
        world.run(Record("r", kind, BOT, UPGRADE if kind == "upgrade" else {"backup_id": backup["backup_id"]}))
    assert (ContainerState.RUNNING, "former") == (world.state(BOT), (world.states / BOT / "file").read_text())


def test_a_rollback_does_not_wait_for_a_state_that_is_too_large_to_become_smaller(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(BOT, "former")
    world.is_ready = False
    errors = [StateTooLargeError("there are more than 500000 files")]
    exchange = world.memory.states.exchange

    def too_large_once(*args: Any, **kwargs: Any) -> None:
        if errors:
            raise errors.pop()
        exchange(*args, **kwargs)

    monkeypatch.setattr(world.memory.states, "exchange", too_large_once)
    with pytest.raises(RollbackFailedError, match="more than 500000 files"):
        world.run(Record("r", "upgrade", BOT, UPGRADE))


@pytest.mark.parametrize("kind", ["upgrade", "restore"])
def test_a_rollback_leaves_the_container_that_somebody_else_has_made_and_names_it(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """As another service on the same swarm may: to it, the bot has no operation in progress."""
    world.add(BOT, "restored")
    backup = world.run(Record("b", "backup", BOT, {"stop_and_restart": False}))
    assert backup is not None
    bot_id, arguments = (BOT, UPGRADE) if kind == "upgrade" else (OTHER, backup)

    def replaced(*_: object) -> Operation[str]:
        yield from ()
        made = world.memory.named(bot_id)
        assert made is not None
        world.memory.delete(made)
        world.memory.create(bot_id, CONFIG, "somebody's")
        return "it never gets ready"

    monkeypatch.setattr(world, "_ready", replaced)
    with pytest.raises(RollbackFailedError, match="could not be put back") as failed:
        world.run(Record("r", kind, bot_id, arguments))
    container = world.memory.named(bot_id)
    assert container is not None
    assert f"the container {container.status.container_id[:12]} now, which is left as it is" in str(failed.value)
    assert ("somebody's", ContainerState.CREATED) == (container.request_id, container.status.state)
    if kind == "upgrade":
        assert ["restored", "restored"] == world.everywhere(BOT), "the former state is kept"


def test_a_backup_on_a_full_disk_starts_the_bot_that_it_has_stopped_once_there_is_room(world: World) -> None:
    world.add(BOT, "old")
    full = CapacityExceededError("no space left on device")
    world.memory.script("start_container", full, full, None)
    assert world.run(Record("b", "backup", BOT, {"stop_and_restart": True})) is not None
    assert ContainerState.RUNNING is world.state(BOT)
    assert world.is_clean(BOT)


def test_a_backup_that_fails_tells_its_own_error_once_the_bot_goes_on_and_is_not_begun_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service has not ended meanwhile, and the bot was stopped once."""
    world.add(BOT, "old")

    def unreadable(*_: object, **__: object) -> None:
        raise StateUnavailableError("the state cannot be read")

    monkeypatch.setattr(world.memory.states, "copy_aside", unreadable)
    full = CapacityExceededError("no space left on device")
    world.memory.script("start_container", full, full, None)
    with pytest.raises(StateUnavailableError, match="cannot be read"):
        world.run(Record("b", "backup", BOT, {"stop_and_restart": True}))
    assert (ContainerState.RUNNING, 1) == (world.state(BOT), len(world.memory.seen("stop_container")))
    assert world.is_clean(BOT)


def test_a_backup_is_made_once_though_its_record_cannot_be_written_when_its_archive_is_complete(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(BOT, "old")
    refused: list[str] = []
    for method in ("save", "forget"):
        original = getattr(Journal, method)

        def fails_for_a_while(journal: Journal, of: Any, original: Any = original) -> None:
            if world.archives() and len(refused) < 3:
                refused.append(str(of))
                raise JournalUnavailableError("the file system is read-only")
            original(journal, of)

        monkeypatch.setattr(Journal, method, fails_for_a_while)
    backup = world.run(Record("b", "backup", BOT, {"stop_and_restart": True}))
    assert backup is not None
    assert (3, [backup["backup_id"]]) == (len(refused), world.archives())
    assert (ContainerState.RUNNING, 1) == (world.state(BOT), len(world.memory.seen("stop_container")))
    assert world.is_clean(BOT)


def test_an_unexpected_error_keeps_the_record(world: World) -> None:
    world.add(BOT, "old")
    record = Record("r", "odd", BOT, {})

    def work(_means: Means, task: Task) -> Operation[Result]:
        yield from ()
        task.enter("first", fact=1)
        raise ContainerManagerError("odd")

    world.kinds["odd"] = work
    with pytest.raises(RuntimeError, match="in the phase first"):
        world.run(record)
    assert [replace(record, phase="first", facts={"fact": 1}, time_seconds=ANY)] == world.journal.unfinished()


BUGS = {
    "upgrade": ("start_container", "create_container", "remove_container", "stop_container"),
    "restore": ("start_container", "stop_container"),
}


@pytest.mark.parametrize(("kind", "method"), [(kind, method) for kind, methods in BUGS.items() for method in methods])
def test_a_bug_in_a_phase_puts_the_bot_back_and_ends_with_an_internal_error(
    world: World, kind: str, method: str
) -> None:
    world.add(BOT, "restored")
    backup = world.run(Record("b", "backup", BOT, {"stop_and_restart": False}))
    assert backup is not None
    (world.states / BOT / "file").write_text("former")
    world.memory.script(method, ValueError("a bug"), None, bot_id=BOT)
    with pytest.raises(InternalError, match="again: an unexpected error"):
        world.run(Record("r", kind, BOT, UPGRADE if kind == "upgrade" else {"backup_id": backup["backup_id"]}))
    container = world.memory.named(BOT)
    assert container is not None
    assert (ContainerState.RUNNING, "bot:1") == (container.status.state, container.status.image)
    assert "former" == (world.states / BOT / "file").read_text()
    record = world.journal.find("r")
    assert record is not None
    assert "INTERNAL_ERROR" == (record.outcome or {})["error"]["reason"]


@pytest.mark.parametrize("target", ["copy_aside", "opened_aside"])
def test_a_bug_in_a_backup_lets_the_bot_go_on(world: World, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    world.add(BOT, "old")

    def buggy(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(world.memory.states, target, buggy)
    with pytest.raises(ValueError, match="a bug"):
        world.run(Record("r", "backup", BOT, {"stop_and_restart": False}))
    assert ContainerState.RUNNING is world.state(BOT)
    assert world.is_clean(BOT)
    assert world.journal.find("r") is None


def overtaken(*, sent: bool = True) -> OperationInProgressError:
    """The outcome of a start after which another service has stopped the bot."""
    error = OperationInProgressError("another call stopped the bot")
    error.start_sent = sent
    return error


@pytest.mark.parametrize(
    "outcome", [InvalidStateError("the bot is being removed"), overtaken()], ids=["removed", "stopped"]
)
def test_a_backup_is_made_though_another_service_removes_or_stops_the_bot_and_starts_it_once(
    world: World, outcome: ContainerManagerError
) -> None:
    world.add(BOT, "old")
    started = len(world.memory.seen("start_container"))
    world.memory.script("start_container", outcome, None)
    backup = world.run(Record("r", "backup", BOT, {"stop_and_restart": True}))
    assert backup is not None
    assert [backup["backup_id"]] == world.archives()
    assert (ContainerState.EXITED, started + 1) == (world.state(BOT), len(world.memory.seen("start_container")))
    assert world.is_clean(BOT)


def test_a_backup_tries_again_to_start_a_bot_whose_start_was_not_sent(world: World) -> None:
    world.add(BOT, "old")
    world.memory.script("start_container", overtaken(sent=False), None)
    with pytest.raises(OperationInProgressError):
        world.run(Record("r", "backup", BOT, {"stop_and_restart": True}))
    assert ContainerState.RUNNING is world.state(BOT)
    assert world.is_clean(BOT)


@pytest.mark.parametrize("kind", ["upgrade", "restore"])
def test_a_rollback_has_not_failed_when_another_service_stops_the_bot_that_it_starts(world: World, kind: str) -> None:
    world.add(BOT, "restored")
    backup = world.run(Record("b", "backup", BOT, {"stop_and_restart": False}))
    assert backup is not None
    (world.states / BOT / "file").write_text("former")
    # It crashes again and again: an upgrade does not wait until it is ready.
    world.memory.change(BOT, state=ContainerState.RESTARTING)
    world.is_ready = False
    world.memory.script("start_container", None, overtaken())
    with pytest.raises(UpgradeRolledBackError):
        world.run(Record("r", kind, BOT, UPGRADE if kind == "upgrade" else backup))
    assert "former" == (world.states / BOT / "file").read_text()
