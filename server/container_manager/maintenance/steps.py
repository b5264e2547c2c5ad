"""The steps that backups, restores and upgrades have in common. Each may be repeated after it was killed half-way."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from container_manager.backend import Lifecycle
from container_manager.backend_maintenance import Maintenance, States
from container_manager.backend_provisioning import Secrets
from container_manager.errors import (
    BackupUnavailableError,
    ContainerManagerError,
    InternalError,
    InvalidStateError,
    NodeUnavailableError,
    OperationInProgressError,
    UpgradeRolledBackError,
)
from container_manager.maintenance.backup_store import BackupStore
from container_manager.maintenance.bot_status import check_own_name
from container_manager.maintenance.journal import Record
from container_manager.maintenance.sealed_secrets import Sealer
from container_manager.maintenance.task import AWAY, TEMPORARY, Report, StartPlace, Task
from container_manager.model import ContainerState, ContainerStatus, HealthStatus
from container_manager.operation import Operation, Wait, at_once

T = TypeVar("T")

STOPPING, REPLACING, WAITING_READY, COMMITTED = "stopping", "replacing", "waiting_ready", "committed"
ROLLING_BACK, ROLLED_BACK, ROLLBACK_FAILED = "rolling_back", "rolled_back", "rollback_failed"
"""The phases that restores and upgrades have in common, in their order."""
READY_SECONDS = 120.0
"""How long a bot may take to become ready, unless the caller says otherwise."""

NO_BACKUPS = "the service keeps no backups: it was started without --backup-root"
UNEXPECTED = "an unexpected error, of which the service's log has the details"
RUNNING = (ContainerState.RUNNING, ContainerState.PAUSED, ContainerState.RESTARTING)
# For what has to be done: an engine may be restarted, or start later than this service.
_PATIENCE_SECONDS = 600
_RETRY_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Ready(Protocol):
    """Waits until a bot is ready."""

    def __call__(self, bot_id: str, seconds: float, on_wait: Callable[[str], None]) -> Operation[str]:
        """Why the bot has not become ready, in words for a person; empty: it is ready. ``on_wait``: what is awaited."""


class Admit(Protocol):
    """Waits until a bot may be started: see :mod:`container_manager.scheduling.starts`."""

    def __call__(self, bot_id: str, on_wait: Callable[[str], None]) -> Operation[StartPlace]:
        """Returns the bot's place. ``on_wait``: as for :class:`Ready`."""


class HoldDisk(Protocol):
    """Waits for one of the few places of operations that copy, archive or verify a state."""

    def __call__(self, on_wait: Callable[[str], None]) -> Operation[Callable[[], None]]:
        """Returns the function that gives the place up, in any thread. ``on_wait``: as for :class:`Ready`."""


@dataclass(frozen=True)
class Means:
    """What the operations work with."""

    lifecycle: Lifecycle
    secrets: Secrets
    maintenance: Maintenance
    states: States | None
    """``None``: bots keep no state."""
    store: BackupStore | None
    """``None``: the service keeps no backups."""
    sealer: Sealer
    admit: Admit
    hold_disk: HoldDisk
    ready: Ready
    last_log: Callable[[str], Operation[list[str]]]
    """The last lines of a container's log; none if it cannot be read."""
    record_path: Callable[[Record], Path]
    """Where the record of an operation is, for the operator."""
    version: str
    """Of this service."""


def require_store(means: Means) -> BackupStore:
    """The store of backups. Raises :class:`BackupUnavailableError` without one."""
    if means.store is None:
        raise BackupUnavailableError(NO_BACKUPS)
    return means.store


def require_states(means: Means) -> States:
    """The states of bots. Raises :class:`BackupUnavailableError` without any."""
    if means.states is None:
        raise BackupUnavailableError("the service keeps no state of bots: it was started without --state-root")
    return means.states


def sealed_secrets(means: Means, bot_id: str) -> bytes:
    """The bot's secrets, encrypted for the operator; empty: the bot has none, or the operator wants none of them."""
    secrets = means.secrets.read_secrets(bot_id) if means.sealer else {}
    return means.sealer.seal(secrets) if secrets else b""


def container_of(means: Means, bot_id: str) -> ContainerStatus | None:
    """The bot's container, for operations that act on it.

    Raises :class:`ContainerNameMismatchError`, :class:`InvalidStateError` for a bot that is being removed, and
    :class:`NodeUnavailableError` for what could not go on.
    """
    status = means.lifecycle.get_container_status(bot_id)
    if status is not None:
        check_own_name(status)
        if status.state is ContainerState.REMOVING:
            # On a swarm, it may still run. It would be gone in the midst of the operation, or come back.
            raise InvalidStateError("the bot is being removed; try again when it is gone", bot_id=bot_id)
        if status.node_unreachable:
            message = f"node {status.node} of the bot cannot be reached; try again when it is back"
            raise NodeUnavailableError(message, bot_id=bot_id, node=status.node)
    return status


class OtherContainerError(InvalidStateError):
    """Somebody else, such as another service on the same engine, has given the bot another container meanwhile."""


def check_own(task: Task, status: ContainerStatus | None) -> None:
    """Raise :class:`OtherContainerError` for a container that the operation has neither found nor made."""
    facts = task.facts
    if status is None or ("container_id" not in facts and facts.get("create") is None):
        # Restores and backups of earlier versions do not record which container they found.
        return
    made = (task.record.request_id, task.create_request_id("new"), task.create_request_id("old"))
    if status.container_id != facts.get("container_id") and status.request_id not in made:
        raise OtherContainerError(
            f"the bot has the container {status.container_id[:12]} now, which is left as it is: somebody else has made "
            "it meanwhile",
            bot_id=task.bot_id,
            container_id=status.container_id,
        )


def check_own_now(means: Means, task: Task) -> None:
    """Look at the bot's container. Raises as :func:`check_own`."""
    check_own(task, means.lifecycle.get_container_status(task.bot_id))


def check_not_paused(status: ContainerStatus | None) -> None:
    """Raise :class:`InvalidStateError` for a paused bot: it would run once it is started again."""
    if status is not None and status.state is ContainerState.PAUSED:
        raise InvalidStateError("the bot is paused; stop it, or resume it", bot_id=status.bot_id)


def is_running(status: ContainerStatus | None) -> bool:
    """Whether a bot is up, or would be if it did not crash."""
    return status is not None and status.state in RUNNING


def is_well(status: ContainerStatus | None) -> bool:
    """Whether a bot runs, and its health check, if any, does not fail."""
    return status is not None and status.state is ContainerState.RUNNING and status.health is not HealthStatus.UNHEALTHY


def stop(means: Means, task: Task, grace_seconds: int | None = None) -> Operation[None]:
    """Stop the bot, whatever becomes of the engine meanwhile. Raises as :func:`check_own`."""

    def stop_own() -> Operation[str]:
        check_own_now(means, task)
        return means.lifecycle.stop_container(task.bot_id, grace_seconds)

    yield from insist(stop_own)
    process_ended(means, task.bot_id)


def failure_of(task: Task, exc: Exception) -> dict[str, Any]:
    """Why an operation goes back, as facts of :data:`ROLLING_BACK`. The log gets the traceback of what is a bug."""
    is_expected = isinstance(exc, NotReadyError | ContainerManagerError)
    if not is_expected:
        _log.error("unexpected error in the phase %s of the %s", task.phase, task.record.kind, exc_info=exc)
    return {"reason": str(exc) if is_expected else UNEXPECTED, "is_bug": not is_expected}


def rolled_back(task: Task, message: str) -> ContainerManagerError:
    """The outcome of an operation that has put everything back."""
    kind = InternalError if task.facts.get("is_bug") else UpgradeRolledBackError
    return kind(message, bot_id=task.bot_id)


def process_ended(means: Means, bot_id: str) -> None:
    """The bot's process has ended; what was kept for it is of no use any more."""
    with suppress(ContainerManagerError):
        means.secrets.forget_token(bot_id)


def admitted(means: Means, task: Task) -> Operation[StartPlace]:
    """Wait until the bot may be started, without a deadline: before it is stopped, so that it runs meanwhile."""
    if task.place is None or not task.place.is_held:
        task.place = yield from means.admit(task.bot_id, partial(_report, task, task.phase))
    return task.place


def disk_held(means: Means, task: Task) -> Operation[None]:
    """Wait until the operation may copy, archive or verify a state: before the bot is stopped."""
    phase = task.phase

    def on_wait(words: str) -> None:
        # Others' archives may take long: starts of other bots do not wait for them.
        task.leave_start()
        _report(task, phase, words)

    if task.release_disk is None:
        task.release_disk = yield from means.hold_disk(on_wait)


def both_held(means: Means, task: Task) -> Operation[None]:
    """Wait until the bot may be started and its state copied: before it is stopped.

    The start comes first, so that operations that start no bot do not wait for starts. An operation that has had to
    wait for the disk keeps that place while it waits for the start again: else it might wait for the two in turn for
    ever.
    """
    yield from admitted(means, task)
    yield from disk_held(means, task)
    yield from admitted(means, task)


def start(means: Means, task: Task) -> Operation[None]:
    """Start the bot, with the place that it has, or when it is admitted. Raises as :func:`check_own`."""

    def start_own() -> Operation[str]:
        check_own_now(means, task)
        return means.lifecycle.start_container(task.bot_id)

    place = yield from admitted(means, task)
    try:
        yield from insist(start_own)
    except OperationInProgressError as exc:
        # Somebody else has stopped the bot since, or started it anew: that is not undone.
        if not exc.start_sent:
            raise
    place.end(started=True)
    task.place = None


class NotReadyError(Exception):
    """The bot has not become ready; the message says why."""


def started(means: Means, task: Task, seconds: float) -> Operation[None]:
    """Start the bot and wait until it is ready. Raises :class:`NotReadyError` if it is not.

    ``seconds`` count from the start, not from the wait for the admission. An engine that stays away and a full disk say
    nothing of the bot: their errors are raised as they are.
    """
    try:
        yield from start(means, task)
        problem = yield from insist(lambda: means.ready(task.bot_id, seconds, partial(_report, task, task.phase)))
    except TEMPORARY:
        raise
    except ContainerManagerError as exc:
        problem = str(exc)
    if problem:
        raise NotReadyError(problem)


def _report(task: Task, phase: str, words: str) -> None:
    task.report(Report(phase, words, facts=task.facts))


def insist(call: Callable[[], Operation[T]]) -> Operation[T]:
    """Carry out an operation that may be repeated, again and again while the engine cannot be reached."""
    for _ in range(int(_PATIENCE_SECONDS / _RETRY_SECONDS)):
        with suppress(*AWAY):
            return (yield from call())
        yield Wait(seconds=_RETRY_SECONDS)
    return (yield from call())


def insist_on(call: Callable[[], T]) -> Operation[T]:
    """As :func:`insist`, for a function."""
    return insist(lambda: at_once(call))
