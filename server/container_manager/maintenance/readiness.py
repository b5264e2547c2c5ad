"""Waits until a started bot is ready.

A bot is ready when its container's health check passes. Without one, it is ready when the action ``ready`` of its image
ends with 0. Either has to hold for a few seconds. Of an image that declares neither, nothing better is known than that
the bot has run for 10 s. The service connects to no address: the check and the action run inside the container.

A bot may end once: some programs restart themselves after a migration. A second end, or a command that cannot be run,
ends the wait at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from container_manager.deadline import Deadline
from container_manager.errors import CapacityExceededError, EngineTimeoutError, EngineUnavailableError
from container_manager.maintenance.ready_probe import Probed
from container_manager.model import ContainerState, ContainerStatus, HealthStatus

HELD_SECONDS = 3.0
"""How long a bot has to stay healthy, or its action has to succeed."""
RUNNING_SECONDS = 10.0
"""How long a bot has to run whose image declares nothing."""
_MOST_ENDS = 1
_LOOK_SECONDS = 0.5
_PROBE_SECONDS = 2.0
_STATUS_SECONDS = 10.0
# A shell's exit codes for a command that it cannot execute or find, and those of the engine's init.
CANNOT_RUN = (126, 127)

StatusOf = Callable[[str, Deadline], Awaitable[ContainerStatus | None]]
Probe = Callable[[ContainerStatus, Deadline], Awaitable[Probed | None]]


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """The outcome of a wait."""

    ready: bool
    message: str
    """What the bot is, such as ``healthy``, or a clause that says why it is not ready."""


class ReadinessWaiter:
    """For any number of bots, on one event loop."""

    def __init__(self, status_of: StatusOf, probe: Probe) -> None:
        """``status_of`` returns a bot's status. ``probe`` is :meth:`ReadyProbe.probe`."""
        self._status_of = status_of
        self._probe = probe

    async def ready(
        self,
        bot_id: str,
        timeout_seconds: float,
        *,
        restart_count: int | None = None,
        on_progress: Callable[[str], None] = lambda _: None,
    ) -> Readiness:
        """Wait until the bot, which has been started, is ready or will not be.

        ``restart_count``: the container's right after the start; ``None``: that of the first look. ``on_progress``
        receives what is being waited for, whenever that changes. An engine that cannot be reached is waited for, too.
        """
        wait = _Wait(restart_count, on_progress)
        try:
            async with asyncio.timeout(timeout_seconds) as scope:
                while True:
                    seen = await self._look(bot_id, wait)
                    if wait.has_held(seen):
                        return Readiness(ready=True, message=seen.message)
                    await asyncio.sleep(_LOOK_SECONDS)
        except _NeverReadyError as exc:
            return Readiness(ready=False, message=str(exc))
        except TimeoutError:
            if not scope.expired():
                raise
            return Readiness(ready=False, message=f"it was not ready within {timeout_seconds:g} s: {wait.message}")

    async def _look(self, bot_id: str, wait: _Wait) -> _Seen:
        try:
            status = await self._status_of(bot_id, Deadline(_STATUS_SECONDS))
        except (EngineUnavailableError, EngineTimeoutError) as exc:
            return _Seen(f"its state is unknown: {exc}")
        if status is None:
            raise _NeverReadyError("its container was removed")
        wait.check(status)
        if status.state is not ContainerState.RUNNING:
            return _Seen("its process has ended and is being started again")
        if status.health is not None:
            healthy = status.health is HealthStatus.HEALTHY
            return _Seen("healthy", HELD_SECONDS) if healthy else _Seen("its health check has not passed yet")
        return await self._probed(status, wait)

    async def _probed(self, status: ContainerStatus, wait: _Wait) -> _Seen:
        if not wait.may_probe():
            return wait.seen
        try:
            probed = await self._probe(status, Deadline(_STATUS_SECONDS))
        except CapacityExceededError as exc:
            # It says nothing of the bot.
            return wait.seen if wait.seen.message else _Seen(f"its action ready has not run yet: {exc}")
        if probed is None:
            return _Seen(
                f"running for {RUNNING_SECONDS:g} s; its image has neither a health check nor the action ready",
                RUNNING_SECONDS,
            )
        if probed.exit_code in CANNOT_RUN:
            cannot = _Seen(f"its action ready cannot be run: {probed.words}")
            # The first time, the container may just have ended: the engine tells that in the same way.
            if wait.seen == cannot:
                raise _NeverReadyError(cannot.message)
            return cannot
        if probed.exit_code:
            return _Seen(f"its action ready says: {probed.words}")
        return _Seen("ready", HELD_SECONDS)


class _NeverReadyError(Exception):
    """The wait has ended; the message says why."""


@dataclass(frozen=True)
class _Seen:
    """What a look at a bot has found."""

    message: str
    needed_seconds: float | None = None
    """The bot is ready when this has been found for so long. ``None``: it is not ready."""


class _Wait:
    """What one wait has seen so far."""

    def __init__(self, restart_count: int | None, on_progress: Callable[[str], None]) -> None:
        self.seen = _Seen("its state is unknown")
        self._restart_count = restart_count
        self._on_progress = on_progress
        self._start_time_ns: int | None = None
        self._since: float | None = None
        self._next_probe = 0.0

    @property
    def message(self) -> str:
        """What is being waited for."""
        needed = self.seen.needed_seconds
        return self.seen.message if needed is None else f"it has to stay so for {needed:g} s: {self.seen.message}"

    def check(self, status: ContainerStatus) -> None:
        """Take over a status. Raises :class:`_NeverReadyError`."""
        if self._restart_count is None:
            self._restart_count = status.restart_count
        if status.start_time_ns != self._start_time_ns:
            # Another run of the process.
            self._start_time_ns, self._since, self._next_probe = status.start_time_ns, None, 0.0
            self.seen = _Seen("")
        if problem := _problem(status, status.restart_count - self._restart_count):
            raise _NeverReadyError(problem)

    def may_probe(self) -> bool:
        """Whether it is time to run the action again."""
        now = asyncio.get_running_loop().time()
        if now < self._next_probe:
            return False
        self._next_probe = now + _PROBE_SECONDS
        return True

    def has_held(self, seen: _Seen) -> bool:
        """Take over what a look has found; whether it has been so for long enough."""
        now = asyncio.get_running_loop().time()
        if seen.needed_seconds is None:
            self._since = None
        elif self._since is None or seen.needed_seconds != self.seen.needed_seconds:
            self._since = now
        if seen != self.seen:
            self.seen = seen
            self._on_progress(self.message)
        return seen.needed_seconds is not None and self._since is not None and now - self._since >= seen.needed_seconds


def _problem(status: ContainerStatus, ends: int) -> str:
    """Why a bot whose process has ended so often will not be ready; empty if it may be."""
    exit_code = status.exit_code
    if exit_code is None and status.last_exit is not None:
        exit_code = status.last_exit.exit_code
    code = "" if exit_code is None else f" with exit code {exit_code}"
    problem = ""
    if ends and exit_code in CANNOT_RUN:
        problem = f"its command cannot be run: it ended{code}"
    elif ends > _MOST_ENDS:
        problem = f"its process ended {ends} times, at last{code or ' for an unknown reason'}"
    elif status.state is ContainerState.RUNNING:
        problem = "its health check fails" if status.health is HealthStatus.UNHEALTHY else ""
    elif status.error:
        problem = f"it could not be started: {status.error}"
    elif status.state is ContainerState.EXITED:
        problem = f"its process ended{code}"
    elif status.state is not ContainerState.RESTARTING:
        problem = f"its container is {'in an unknown state' if status.state is None else status.state.value}"
    return problem
