"""The service is killed between any two steps of an operation: the next one finishes it, and nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import ANY, Mock, patch

import pytest

from container_manager.bot_directories import BotUser, RootDirectory
from container_manager.errors import (
    CapacityExceededError,
    ContainerManagerError,
    EngineUnavailableError,
    InternalError,
    NotSupportedByBackendError,
    RollbackFailedError,
    UpgradeRolledBackError,
)
from container_manager.maintenance import steps
from container_manager.maintenance import task as task_module
from container_manager.maintenance.backup import create_backup
from container_manager.maintenance.backup_store import BackupStore
from container_manager.maintenance.journal import Journal, Record, error_document
from container_manager.maintenance.long_runs import LoopWaits
from container_manager.maintenance.restore import restore_backup
from container_manager.maintenance.sealed_secrets import Sealer
from container_manager.maintenance.steps import FAILED, Means
from container_manager.maintenance.task import Report, Result, Task, Work, recorded
from container_manager.maintenance.upgrade import upgrade
from container_manager.model import ContainerConfig, ContainerState, PortBinding, ResourceLimits
from container_manager.operation import Operation, carry_out
from container_manager.provisioning.host_states import MAINTENANCE_DIRECTORY
from tests.support.memory_backend import MemoryBackend
from tests.support.memory_store import image_id_of
from tests.unit.provisioned import BOT, OTHER

USER = BotUser(os.geteuid(), os.getegid())
CONFIG = ContainerConfig(
    image="bot:1",
    ai_model="m",
    environment={"A": "b"},
    ports=(PortBinding(80, 8080),),
    labels={"tier": "one"},
    resources=ResourceLimits(memory_bytes=1 << 30),
)
UPGRADE = {"image": "bot:2", "ready_seconds": 1.0, "grace_seconds": None, "skip_backup": False}
PATCHED = ("lifecycle", "maintenance", "states", "store", "secrets")


class Killed(BaseException):
    """The process is gone."""


class Steps:
    """Counts the steps that an operation takes in all that it works with, and ends the process at one of them.

    Each rename is a step of its own. Handlers of exceptions remove no file and no directory after that.
    """

    def __init__(self, last: int) -> None:
        self._last = last
        self._count = itertools.count()
        self._killed = False

    def step(self) -> None:
        """A moment at which the process may be killed."""
        self._killed = self._killed or next(self._count) == self._last
        self.go_on()

    def go_on(self) -> None:
        """Raise :class:`Killed` if the process is gone."""
        if self._killed:
            raise Killed

    def removing(self, call: Callable[..., None]) -> Callable[..., None]:
        """The same function, without effect when the process is gone."""

        def removes(*args: Any, **kwargs: Any) -> None:
            self.go_on()
            call(*args, **kwargs)

        return removes

    def around(self, target: Any) -> Any:
        """The same object, with a step before and after each call of a method."""
        return _Stepping(target, self)


class _Stepping:
    def __init__(self, target: Any, steps: Steps) -> None:
        self._target, self._steps = target, steps

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return found

        def stepped(*args: Any, **kwargs: Any) -> Any:
            self._steps.step()
            result = found(*args, **kwargs)
            if isinstance(result, Generator):
                return self._carried(result)
            self._steps.step()
            return result

        return stepped

    def _carried(self, operation: Operation[Any]) -> Operation[Any]:
        result = yield from operation
        self._steps.step()
        return result


class World:
    """A machine with bots, on which services come and go."""

    def __init__(self, path: Path) -> None:
        for name in ("secrets", "states", "backups"):
            (path / name).mkdir(0o700)
        for bot_id in (BOT, OTHER):
            (path / "secrets" / bot_id).mkdir()
        self.states = path / "states"
        self.backups = path / "backups"
        secrets, states = (RootDirectory(path / name, path / name) for name in ("secrets", "states"))
        self.memory = MemoryBackend(secrets, state_root=states)
        self.store = BackupStore(self.backups)
        self.journal = Journal(path / "secrets")
        self.is_ready = True
        self.reports: list[Report] = []
        self.kinds: dict[str, Callable[[Means, Task], Operation[Result]]] = {
            "backup": create_backup,
            "restore": restore_backup,
            "upgrade": upgrade,
        }

    def add(self, bot_id: str, content: str, *, running: bool = True) -> None:
        """A bot with a state."""
        (self.states / bot_id).mkdir()
        (self.states / bot_id / "file").write_text(content)
        os.mkfifo(self.states / bot_id / "pipe")
        carry_out(self.memory.lifecycle.create_container(bot_id, CONFIG))
        if running:
            carry_out(self.memory.lifecycle.start_container(bot_id))

    def run(self, record: Record, last: int = -1) -> Result | None:
        """Carry out an operation, in a service that is killed at that step; ``None``: it was."""
        steps = Steps(last)
        means = Means(
            lifecycle=steps.around(self.memory.lifecycle),
            secrets=self.memory.secrets,
            maintenance=steps.around(self.memory.maintenance),
            states=steps.around(self.memory.states),
            store=steps.around(self.store),
            sealer=Sealer(()),
            admit=_admit,
            hold_disk=_hold_disk,
            ready=self._ready,
            last_log=_no_log,
            record_path=self.journal.path,
            version="1",
        )
        task = Task(record, steps.around(self.journal), self.reports.append)
        work: Work = partial(self.kinds[record.kind], means)
        try:
            with (
                patch.object(os, "rename", steps.around(os).rename),
                patch.object(os, "unlink", steps.removing(os.unlink)),
                patch.object(os, "rmdir", steps.removing(os.rmdir)),
            ):
                return carry_out(recorded(work, task))
        except Killed:
            return None

    def restart(self) -> list[Record]:
        """A service starts and finishes what it finds. Returns that."""
        records = self.journal.unfinished()
        for states in [self.memory.states]:
            assert states is not None
            states.remove_leftovers({record.bot_id for record in records})
        self.store.remove_leftovers()
        for record in records:
            with suppress(UpgradeRolledBackError):
                self.run(record)
        return records

    def everywhere(self, bot_id: str) -> list[str]:
        """The content of the bot's state and of all complete copies of it."""
        asides = self.states / MAINTENANCE_DIRECTORY / bot_id
        places = [self.states / bot_id, *(asides.iterdir() if asides.exists() else ())]
        return [
            (place / "file").read_text() for place in places if place.suffix != ".part" and (place / "file").exists()
        ]

    def state(self, bot_id: str) -> ContainerState | None:
        """The state of the bot's container."""
        container = self.memory.named(bot_id)
        return None if container is None else container.status.state

    def config(self, bot_id: str) -> ContainerConfig | None:
        """The configuration of the bot's container."""
        container = self.memory.named(bot_id)
        return None if container is None else container.config

    def archives(self) -> list[str]:
        """The ids of the archives; asserts that each is whole, and that nothing else is in the backup root."""
        ids = [backup.backup_id for backup in self.store.list()]
        names = {path.name for path in self.backups.iterdir()}
        assert {f"{each}{suffix}" for each in ids for suffix in (".tar.gz", ".sha256")} == names
        for each in ids:
            assert (["pipe"], ["file"]) == (
                self.store.manifest(each).left_out,
                [entry.path for entry in self.store.manifest(each).entries],
            )
        return ids

    def keep_failed(self, bot_id: str, content: str) -> None:
        """The bot has once not become ready."""
        failed = self.states / MAINTENANCE_DIRECTORY / bot_id / FAILED
        failed.mkdir(parents=True)
        (failed / "file").write_text(content)

    def asides(self, bot_id: str) -> list[str]:
        """The names of the copies beside the bot's state, and of what is left of any."""
        directory = self.states / MAINTENANCE_DIRECTORY / bot_id
        return sorted(path.name for path in directory.iterdir()) if directory.exists() else []

    def is_clean(self, bot_id: str) -> bool:
        """Whether nothing is left of an operation."""
        return not (self.states / MAINTENANCE_DIRECTORY / bot_id).exists() and [] == self.journal.unfinished()

    def has_only_failed(self, bot_id: str) -> bool:
        """Whether nothing but the state that has failed is left of operations."""
        return (["failed"], []) == (self.asides(bot_id), self.journal.unfinished())

    def _ready(self, bot_id: str, _seconds: float, _on_wait: Callable[[str], None]) -> Operation[str]:
        yield from ()
        running = self.state(bot_id) is ContainerState.RUNNING
        container = self.memory.named(bot_id)
        if container is not None and container.status.image == "bot:2":
            (self.states / bot_id / "file").write_text("migrated")
            return "" if self.is_ready else "it never gets ready"
        # What is wrong is the state that was restored.
        bad = not self.is_ready and "restored" in (self.states / bot_id / "file").read_text()
        return "" if running and not bad else "it does not answer"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory, where nothing waits for a disk."""
    in_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as directory:
        yield Path(directory)


def _no_log(_container_id: str) -> Operation[list[str]]:
    yield from ()
    return []


class _Place:
    """A place that is there at once."""

    is_held = True

    def end(self, *, started: bool) -> None:
        """Nobody waits for it."""


def _admit(_bot_id: str, _on_wait: Callable[[str], None]) -> Operation[_Place]:
    yield from ()
    return _Place()


def _hold_disk(_on_wait: Callable[[str], None]) -> Operation[Callable[[], None]]:
    yield from ()
    return lambda: None


def _full(*_: object) -> None:
    raise CapacityExceededError("no room")


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
    for step, world in worlds(tmp_path):
        world.add(BOT, "old")
        ended = world.run(record, step) is not None
        found = world.restart()
        assert ContainerState.RUNNING is world.state(BOT)
        assert ["old"] == world.everywhere(BOT)
        assert world.is_clean(BOT)
        assert ended or (world.journal.find("r") or record).outcome is not None or found == []
        assert len(world.archives()) >= len(found)
        if ended:
            assert step > 20
            break


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


def test_an_engine_that_goes_away_for_a_while_does_not_end_a_restore(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add(BOT, "restored")
    backup = world.run(Record("b", "backup", BOT, {"stop_and_restart": False}))
    assert backup is not None
    (world.states / BOT / "file").write_text("former")
    world.memory.script("stop_container", EngineUnavailableError("away"), None)
    assert {} == world.run(Record("r", "restore", BOT, {"backup_id": backup["backup_id"]}))
    assert ["restored"] == world.everywhere(BOT)


def test_a_full_disk_before_the_first_phase_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    world.add(BOT, "former")
    monkeypatch.setattr(Journal, "save", _full)
    with pytest.raises(CapacityExceededError):
        world.run(Record("r", "upgrade", BOT, UPGRADE))
    assert ContainerState.RUNNING is world.state(BOT)
    assert world.is_clean(BOT)


@pytest.mark.parametrize("is_ready", [True, False])
def test_an_operation_ends_once_the_disk_has_room_for_its_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_ready: bool
) -> None:
    monkeypatch.setattr(task_module, "_AGAIN_SECONDS", 0)
    world = World(tmp_path)
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


@pytest.mark.parametrize("phase", ["backing_up", "replacing", "waiting_ready", "committed"])
def test_an_upgrade_goes_on_once_the_disk_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    """Neither its phase nor the decision to go back can be written for a while."""
    monkeypatch.setattr(task_module, "_AGAIN_SECONDS", 0)
    world = World(tmp_path)
    world.add(BOT, "former")
    save, refused = Journal.save, []

    def full_for_a_while(journal: Journal, record: Record) -> None:
        if record.phase in {phase, "rolling_back"} and record.outcome is None and len(refused) < 4:
            refused.append(record.phase)
            _full()
        save(journal, record)

    monkeypatch.setattr(Journal, "save", full_for_a_while)
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
def test_a_rollback_waits_for_an_engine_that_is_away_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, method: str
) -> None:
    monkeypatch.setattr(task_module, "_AGAIN_SECONDS", 0)
    monkeypatch.setattr(steps, "_PATIENCE_SECONDS", 0)
    world = World(tmp_path)
    world.add(BOT, "restored")
    backup = world.run(Record("b", "backup", BOT, {"stop_and_restart": False}))
    assert backup is not None
    (world.states / BOT / "file").write_text("former")
    world.is_ready = False
    away = [EngineUnavailableError("away"), EngineUnavailableError("away"), None]
    # Before the rollback, the call succeeds once.
    world.memory.script(method, None, *away)
    with pytest.raises(UpgradeRolledBackError):
        world.run(Record("r", kind, BOT, UPGRADE if kind == "upgrade" else {"backup_id": backup["backup_id"]}))
    assert (ContainerState.RUNNING, "former") == (world.state(BOT), (world.states / BOT / "file").read_text())


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


def test_the_record_of_a_bot_that_could_not_be_put_back_is_kept(tmp_path: Path) -> None:
    """It may have the only description of the container."""
    world = World(tmp_path)
    for request_id, error in (("r", RollbackFailedError("failed")), ("s", UpgradeRolledBackError("rolled back"))):
        world.journal.save(Record(request_id, "upgrade", BOT, {}, facts={"config": {}}, outcome=error_document(error)))
    with patch("container_manager.maintenance.journal.time.time", return_value=time.time() + 8 * 24 * 3600):
        assert [] == world.journal.unfinished()
    assert world.journal.find("r")
    assert not world.journal.find("s")


def test_an_unexpected_error_keeps_the_record(tmp_path: Path) -> None:
    world = World(tmp_path)
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
    tmp_path: Path, kind: str, method: str
) -> None:
    world = World(tmp_path)
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
def test_a_bug_in_a_backup_lets_the_bot_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    world = World(tmp_path)
    world.add(BOT, "old")

    def buggy(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(world.memory.states, target, buggy)
    with pytest.raises(ValueError, match="a bug"):
        world.run(Record("r", "backup", BOT, {"stop_and_restart": False}))
    assert ContainerState.RUNNING is world.state(BOT)
    assert world.is_clean(BOT)
    assert world.journal.find("r") is None


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
