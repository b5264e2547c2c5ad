"""A machine with bots, on which services carry out maintenance and are killed between any two steps."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from container_manager.bot_directories import RootDirectory
from container_manager.errors import UpgradeRolledBackError
from container_manager.maintenance.backup import create_backup
from container_manager.maintenance.backup_store import BackupStore
from container_manager.maintenance.former_state import FAILED
from container_manager.maintenance.journal import Journal, Record
from container_manager.maintenance.restore import restore_backup
from container_manager.maintenance.sealed_secrets import Sealer
from container_manager.maintenance.steps import Means
from container_manager.maintenance.task import Report, Result, Task, Work, recorded
from container_manager.maintenance.upgrade import upgrade
from container_manager.model import ContainerConfig, ContainerState, PortBinding, ResourceLimits
from container_manager.operation import Operation, carry_out
from container_manager.provisioning.host_states import MAINTENANCE_DIRECTORY
from tests.support.memory_backend import MemoryBackend
from tests.unit.provisioned import BOT, OTHER

CONFIG = ContainerConfig(
    image="bot:1",
    ai_model="m",
    environment={"A": "b"},
    ports=(PortBinding(80, 8080),),
    labels={"tier": "one"},
    resources=ResourceLimits(memory_bytes=1 << 30),
)
UPGRADE = {"image": "bot:2", "ready_seconds": 1.0, "grace_seconds": None, "skip_backup": False}


class Killed(BaseException):
    """The process is gone."""


class Steps:
    """Counts the steps that an operation takes in all that it works with, and ends the process at one of them.

    Each rename is a step of its own. Handlers of exceptions remove no file and no directory after that.
    """

    def __init__(self, last: int, happens: Callable[[], None] | None = None) -> None:
        """``happens``: this, at that step; the process goes on."""
        self._last = last
        self._happens = happens
        self._count = itertools.count()
        self._killed = False

    def step(self) -> None:
        """A moment at which the process may be killed."""
        if next(self._count) == self._last:
            if self._happens is None:
                self._killed = True
            else:
                self._happens()
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
        (path / "other").mkdir()
        self._other = Journal(path / "other")
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

    def run(self, record: Record, last: int = -1, happens: Callable[[], None] | None = None) -> Result | None:
        """Carry out an operation, in a service that is killed at that step; ``None``: it was. See :class:`Steps`."""
        steps = Steps(last, happens)
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
                patch.object(os, "link", steps.around(os).link),
                patch.object(os, "unlink", steps.removing(os.unlink)),
                patch.object(os, "rmdir", steps.removing(os.rmdir)),
            ):
                return carry_out(recorded(work, task))
        except Killed:
            return None

    def restart(self) -> list[Record]:
        """A service starts after another one with the same states, and finishes what it finds. Returns that."""
        self.start_other()
        records = self._found(self.journal)
        for record in records:
            with suppress(UpgradeRolledBackError):
                self.run(record)
        return records

    def start_other(self) -> None:
        """A service with the same root of states and its own root of secrets starts."""
        assert [] == self._found(self._other)

    def _found(self, journal: Journal) -> list[Record]:
        assert self.memory.states is not None
        records = journal.unfinished()
        self.memory.states.set_leftovers_aside(journal.identity(), {record.bot_id for record in records})
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
        archives, checksums = ({f"{each}{suffix}" for each in ids} for suffix in (".tar.gz", ".sha256"))
        assert archives == names - checksums
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
