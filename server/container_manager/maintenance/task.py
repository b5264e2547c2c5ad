"""An operation as it knows itself: the phase that it is in, and what later phases need to know."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from container_manager.backend_maintenance import OnPull
from container_manager.errors import (
    CapacityExceededError,
    ContainerManagerError,
    EngineTimeoutError,
    EngineUnavailableError,
    InternalError,
    NodeUnavailableError,
    RollbackFailedError,
    UpgradeRolledBackError,
    reason_of,
)
from container_manager.maintenance.journal import Journal, JournalUnavailableError, Record, error_document
from container_manager.operation import Operation, Wait, at_once

_OUTCOMES = (UpgradeRolledBackError, RollbackFailedError, InternalError)
AWAY = (EngineUnavailableError, EngineTimeoutError, NodeUnavailableError)
"""The engine or the bot's machine cannot be reached."""
TEMPORARY = (*AWAY, CapacityExceededError, JournalUnavailableError)
"""Conditions that may last, but end by themselves."""
_AGAIN_SECONDS = 30.0
_REPORT_SECONDS = 0.1

_log = logging.getLogger(__name__)

Result = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """Where an operation is."""

    phase: str = ""
    message: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


class StartPlace(Protocol):
    """A bot's place among those that start; it ends by itself after a while."""

    @property
    def is_held(self) -> bool:
        """Whether it has not ended."""

    def end(self, *, started: bool) -> None:
        """The bot has been started, or will not be."""


class Task:
    """What an operation, in a worker thread, knows of itself."""

    def __init__(self, record: Record, journal: Journal, publish: Callable[[Report], None]) -> None:
        self.record = record
        self._journal = journal
        self._publish = publish
        self._reported = 0.0
        self._last = Report(record.phase, facts=record.facts)
        self.place: StartPlace | None = None
        """From before the bot is stopped until it is started again; not on the disk."""
        self.release_disk: Callable[[], None] | None = None
        """Gives up the operation's place among those that work on states; ``None``: it has none."""

    @property
    def bot_id(self) -> str:
        """The bot."""
        return self.record.bot_id

    @property
    def key(self) -> str:
        """Stands for the request id in names."""
        return hashlib.sha256(self.record.request_id.encode()).hexdigest()[:16]

    def create_request_id(self, which: str) -> str:
        """The request id of the create that makes the ``new`` or the ``old`` container of an upgrade."""
        return f"{self.key}-{which}"

    def copy_name(self, begin: str) -> str:
        """A name for a copy of a state. It shows whose copy it is, since services may share a root of states."""
        return f"{begin}-{self._journal.identity()}-{self.key}"

    @property
    def phase(self) -> str:
        """The phase that is on the disk; empty: nothing was changed yet."""
        return self.record.phase

    @property
    def is_unfinished(self) -> bool:
        """Whether the next start of the service would continue it."""
        return bool(self.record.phase) and self.record.outcome is None

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was entered with this phase and earlier ones."""
        return self.record.facts

    def enter(self, phase: str, message: str = "", **facts: Any) -> None:
        """Begin a phase; it is on the disk when this returns."""
        record = replace(self.record, phase=phase, facts={**self.record.facts, **facts})
        self._journal.save(record)
        self.record = record
        self.report(Report(phase, message, facts=self.record.facts))

    def leave(self) -> None:
        """All is as it was before the first phase; nothing of it is on the disk when this returns."""
        self._journal.forget(self.record.request_id)
        self.record = replace(self.record, phase="", facts={})

    def leave_disk(self) -> None:
        """The operation copies, archives or verifies no state any more."""
        release, self.release_disk = self.release_disk, None
        if release is not None:
            release()

    def leave_start(self) -> None:
        """The operation does not start the bot, or not soon."""
        place, self.place = self.place, None
        if place is not None:
            place.end(started=False)

    def end(self, outcome: Mapping[str, Any]) -> None:
        """Record the outcome; it is on the disk when this returns."""
        record = replace(self.record, outcome=outcome)
        self._journal.save(record)
        self.record = record

    def report(self, report: Report) -> None:
        """Tell those who watch. Of many reports of one phase, some are left out."""
        now = time.monotonic()
        if report.phase == self._last.phase and now < self._reported + _REPORT_SECONDS:
            return
        self._last, self._reported = report, now
        self._publish(report)

    def progress(self, phase: str, message: str, total_bytes: int = 0) -> Callable[[int], None]:
        """A function that reports how many bytes are done."""
        return lambda done: self.report(Report(phase, message, done, total_bytes, self.record.facts))

    def pulls(self, phase: str, message: str) -> OnPull:
        """A function that reports how far a pull is."""
        return lambda pulled: self.report(Report(phase, message, *pulled))


Work = Callable[[Task], Operation[Result]]


def recorded(work: Work, task: Task) -> Operation[Result]:
    """Carry out an operation, from the phase that the task is in, and record its outcome.

    What has changed something and cannot go on just now is tried again: until then, the bot may be paused or stopped.
    """
    while True:
        try:
            try:
                result = yield from work(task)
            finally:
                task.leave_disk()
                task.leave_start()
        except _OUTCOMES as exc:
            yield from _end(task, error_document(exc))
            raise
        except TEMPORARY as exc:
            if not task.phase:
                raise
            yield _until_later(task, exc)
        except ContainerManagerError as exc:
            if task.phase:
                # The record stays, and with it all that is needed to continue.
                raise RuntimeError(f"it failed in the phase {task.phase}, which cannot fail") from exc
            raise
        else:
            yield from _end(task, {"result": result})
            return result


def _end(task: Task, outcome: Mapping[str, Any]) -> Operation[None]:
    yield from patiently(task, lambda: at_once(lambda: task.end(outcome)))


def patiently(task: Task, call: Callable[[], Operation[None]]) -> Operation[None]:
    """Carry out what has to be done and may be repeated, again and again while it fails with :data:`TEMPORARY`.

    Others have the operation's places while it waits.
    """
    while True:
        try:
            yield from call()
        except TEMPORARY as exc:
            task.leave_disk()
            task.leave_start()
            yield _until_later(task, exc)
        else:
            return


def _until_later(task: Task, exc: ContainerManagerError) -> Wait:
    _log.warning("the %s of bot %s waits and goes on later: %s", task.record.kind, task.bot_id, reason_of(exc))
    return Wait(seconds=_AGAIN_SECONDS)
