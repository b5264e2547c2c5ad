"""The long operations of a server, with all that they work with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import container_manager
from container_manager.backend import Backend, Feature, Lifecycle
from container_manager.backend_maintenance import States
from container_manager.config import ServerConfig
from container_manager.deadline import Deadline
from container_manager.errors import ContainerManagerError, reason_of
from container_manager.maintenance.backup import create_backup
from container_manager.maintenance.backup_store import BackupStore
from container_manager.maintenance.journal import BACKUP, RESTORE, UPGRADE, Journal, Record
from container_manager.maintenance.readiness import ReadinessWaiter
from container_manager.maintenance.restore import restore_backup
from container_manager.maintenance.runs import Runs
from container_manager.maintenance.sealed_secrets import Sealer
from container_manager.maintenance.steps import Means
from container_manager.maintenance.task import StartPlace
from container_manager.maintenance.upgrade import upgrade
from container_manager.operation import Operation, Wait
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.scheduling.keyed_semaphore import KeyedSemaphore
from container_manager.scheduling.starts import Place, Starts
from container_manager.view.keeper import ViewKeeper

T = TypeVar("T")

_LINES, _LINE_LENGTH, _LOG_SECONDS = 6, 100, 5.0
_UNTOLD_SECONDS = 0.2
# Each copies, compresses or verifies a whole state: more at once are no faster.
_STATES_AT_ONCE = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LongRuns:
    """The operations, and the backups that they make."""

    runs: Runs
    store: BackupStore | None
    """``None``: the service keeps no backups."""
    states: States | None
    """``None``: bots keep no state."""
    waits: LoopWaits

    async def recover(self) -> None:
        """Continue what a killed service has left, and take its copies away, whose removal is left to others."""
        self.waits.loop = asyncio.get_running_loop()
        try:
            await self.runs.recover(self._set_leftovers_aside)
        except ContainerManagerError as exc:
            # The calls that need it have the same error.
            _log.warning("operations that were under way cannot be continued: %s", reason_of(exc))

    def _set_leftovers_aside(self, owner: str, busy: Collection[str]) -> None:
        if self.states is not None:
            self.states.set_leftovers_aside(owner, busy)


def long_runs(
    config: ServerConfig, backend: Backend, operations: BotOperations, keeper: ViewKeeper, waits: LoopWaits
) -> LongRuns:
    """Nothing runs before :meth:`LongRuns.recover`."""
    journal = Journal(config.service.secrets_root.path)
    store = None if config.backup_root is None else BackupStore(config.backup_root)
    means = Means(
        lifecycle=backend.lifecycle,
        secrets=backend.secrets,
        maintenance=backend.maintenance,
        states=backend.states,
        store=store,
        sealer=Sealer(config.backup_recipients),
        admit=waits.admit,
        hold_disk=waits.hold_disk,
        ready=waits.ready,
        last_log=waits.last_log,
        record_path=journal.path,
        version=container_manager.__version__,
    )
    kinds = {
        BACKUP: partial(create_backup, means),
        RESTORE: partial(restore_backup, means),
        UPGRADE: partial(upgrade, means),
    }
    runs = Runs(kinds, journal, operations, keeper.look_at, partial(_grace_seconds, backend.lifecycle))
    return LongRuns(runs, store, backend.states, waits)


def _grace_seconds(lifecycle: Lifecycle, record: Record) -> int | None:
    """The grace period of an operation that stops the bot; ``None``: it does not."""
    if record.kind == BACKUP and not record.arguments.get("stop_and_restart"):
        return None
    grace_seconds: int | None = record.arguments.get("grace_seconds")
    return lifecycle.default_grace_seconds if grace_seconds is None else grace_seconds


class LoopWaits:
    """Waits on the event loop for operations in worker threads."""

    def __init__(self, waiter: ReadinessWaiter, keeper: ViewKeeper, backend: Backend, starts: Starts) -> None:
        self._waiter = waiter
        self._starts = starts
        self._states = KeyedSemaphore(_STATES_AT_ONCE)
        self._backend = backend
        self._keeper = keeper
        self.loop: asyncio.AbstractEventLoop
        """Where to wait; set before the first operation."""

    def admit(self, bot_id: str, on_wait: Callable[[str], None]) -> Operation[StartPlace]:
        """A :class:`~container_manager.maintenance.steps.Admit`."""
        # Once the operation has changed something, a stop waits for it: it has to start the bot before it ends.
        admitted = self._starts.admit(bot_id, Deadline(), gives_way=False)
        words = "waiting until fewer other bots are starting"
        place = yield from self._told(admitted, Place.release, partial(on_wait, words))
        return _PlaceOnLoop(place, self.loop)

    def hold_disk(self, on_wait: Callable[[str], None]) -> Operation[Callable[[], None]]:
        """A :class:`~container_manager.maintenance.steps.HoldDisk`."""
        held = self._states.acquire("", Deadline())
        words = "waiting for the copies and archives of other bots"
        release = yield from self._told(held, lambda release: release(), partial(on_wait, words))
        return partial(self._soon, release)

    def ready(self, bot_id: str, seconds: float, on_wait: Callable[[str], None]) -> Operation[str]:
        """A :class:`~container_manager.maintenance.steps.Ready`."""
        waited = self._on_loop(self._wait(bot_id, seconds, on_wait))
        yield Wait(future=waited)
        return waited.result()

    def last_log(self, container_id: str) -> Operation[list[str]]:
        """The last lines of a container's log, for a person; none if it cannot be read."""
        read = self._on_loop(self._last_log(container_id))
        yield Wait(future=read)
        return read.result()

    def _told(
        self, waits: Coroutine[Any, Any, T], give_back: Callable[[T], None], on_wait: Callable[[], None]
    ) -> Operation[T]:
        """What a wait gets, which is told of if it is not short. ``give_back``: for an operation that gives way."""
        got: list[T] = []
        given_up = False

        async def get() -> None:
            got.append(await waits)
            if given_up:
                give_back(got.pop())

        def give_up() -> None:
            nonlocal given_up
            given_up = True
            getting.cancel()
            if got:
                give_back(got.pop())

        getting = self._on_loop(get())
        try:
            yield Wait(future=getting, seconds=_UNTOLD_SECONDS)
            if not getting.done():
                on_wait()
                yield Wait(future=getting)
        except Exception:
            self._soon(give_up)
            raise
        getting.result()
        return got[0]

    def _soon(self, function: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self.loop.call_soon_threadsafe(function)

    def _on_loop(self, waits: Coroutine[Any, Any, T]) -> Future[T]:
        try:
            return asyncio.run_coroutine_threadsafe(waits, self.loop)
        except RuntimeError:
            # The loop has ended, and the service with it. The next one continues the operation.
            waits.close()
            raise asyncio.CancelledError from None

    async def _last_log(self, container_id: str) -> list[str]:
        lines: list[str] = []
        if Feature.LOGS in self._backend.limitations:
            return lines
        with suppress(ContainerManagerError, TimeoutError):
            async with asyncio.timeout(_LOG_SECONDS), aclosing(self._backend.log(container_id).existing(_LINES)) as log:
                async for entries in log:
                    lines += (line.decode("utf-8", "replace")[:_LINE_LENGTH] for _, _, line, _ in entries)
        return lines[-_LINES:]

    async def _wait(self, bot_id: str, seconds: float, on_wait: Callable[[str], None]) -> str:
        # The view may still show the bot as it was before its start.
        await self._keeper.look_at(bot_id)
        readiness = await self._waiter.ready(bot_id, seconds, on_progress=on_wait)
        return "" if readiness.ready else readiness.message


class _PlaceOnLoop:
    """A place, for worker threads."""

    def __init__(self, place: Place, loop: asyncio.AbstractEventLoop) -> None:
        self._place = place
        self._loop = loop

    @property
    def is_held(self) -> bool:
        return self._place.is_held

    def end(self, *, started: bool) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(partial(self._place.ended, started=started))
