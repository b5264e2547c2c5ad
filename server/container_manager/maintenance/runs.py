"""Operations that go on when their callers go away, and whose outcome callers may ask for again.

    run = await runs.attach(Record(request_id, "backup", bot_id, arguments))
    async with aclosing(run.reports()) as reports:
        async for report in reports:  # of this call's operation, or of the one with the same request id
            ...
    run.result()

An operation is a generator function that gets a :class:`Task` (:mod:`container_manager.operation` explains the
generator). Before it changes anything, it enters a phase, which is on the disk then; the same function continues from
that phase after the service was killed. Before it raises an error other than the outcomes of a rollback, it has undone
everything and left the phase: the same request id then begins anew. While it waits and has entered no phase, a call
that ends the bot ends it with :class:`OperationInProgressError`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from container_manager.deadline import Deadline
from container_manager.errors import (
    ContainerManagerError,
    FieldViolation,
    InternalError,
    InvalidConfigError,
    OperationInProgressError,
    ShuttingDownError,
)
from container_manager.maintenance.journal import Journal, Record, error_of
from container_manager.maintenance.task import Report, Result, Task, Work, recorded
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.scheduling.worker_pools import WorkerPool

_SHOWN_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Run:
    """An operation, and those who watch it; on the event loop."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._last = Report(record.phase, facts=record.facts)
        self._watchers: list[tuple[deque[Report], Callable[[], None]]] = []
        self._changed = asyncio.Event()
        self._ended: Callable[[], Result] | None = None

    async def reports(self, on_end: Callable[[], None] = lambda: None) -> AsyncGenerator[Report, None]:
        """The present report and the following ones, until the operation ends. Every phase has one.

        ``on_end``: the operation has ended; there may be reports that have not been read.
        """
        queue = deque([self._last])
        self._watchers.append((queue, on_end))
        if self._ended is not None:
            on_end()
        try:
            while True:
                while queue:
                    yield queue.popleft()
                if self._ended is not None:
                    return
                await self._changed.wait()
        finally:
            self._watchers = [each for each in self._watchers if each[0] is not queue]

    def result(self) -> Result:
        """The result of an operation that has ended; raises its error."""
        if self._ended is None:
            raise RuntimeError("the operation has not ended")
        return self._ended()

    def publish(self, report: Report) -> None:
        """Give the watchers a report. One that has not read the last one of the same phase gets only the new one."""
        self._last = report
        for queue, _ in self._watchers:
            if queue and queue[-1].phase == report.phase:
                queue.pop()
            queue.append(report)
        self._wake()

    def end(self, outcome: Callable[[], Result]) -> None:
        """End with what this returns or raises."""
        self._ended = outcome
        for _, on_end in self._watchers:
            on_end()
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Runs:
    """The operations of one service, by request id; at most one of each bot. For one event loop."""

    def __init__(
        self,
        kinds: Mapping[str, Work],
        journal: Journal,
        operations: BotOperations,
        look_at: Callable[[str], Awaitable[None]],
        grace_of: Callable[[Record], int | None] = lambda _: None,
    ) -> None:
        """``look_at`` waits until reads show what has become of a bot's container.

        ``grace_of``: the grace period, in seconds, of an operation that stops the bot; ``None``: it does not.
        """
        self._kinds = kinds
        self._journal = journal
        self._operations = operations
        self._look_at = look_at
        self._grace_of = grace_of
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_alone = True
        """When it began, no other service had the journal."""

    async def recover(self, clean: Callable[[str, Collection[str]], None]) -> None:
        """Continue what a killed service has left. Each operation has its bot's turn when this returns.

        ``clean`` is called before, in a worker thread, with the identity of the journal and the bots that have such an
        operation. Nothing is done while another service has the journal: what looks left may be what it works on.
        """

        def unfinished(_deadline: Deadline) -> list[Record]:
            if self._journal.hold():
                try:
                    records = [record for record in self._journal.unfinished() if record.kind in self._kinds]
                    clean(self._journal.identity(), {record.bot_id for record in records})
                finally:
                    self._is_alone = self._journal.share()
            else:
                self._is_alone = False
            if self._is_alone:
                return records
            _log.warning(
                "another service has this secrets root: what a killed one has left is neither continued nor removed"
            )
            return []

        turns = [self._begin(record) for record in await self._operations.read("the journal", unfinished, Deadline())]
        for turn in turns:
            await turn.wait()

    async def attach(self, record: Record) -> Run:
        """The run of an operation that this call begins, or that an earlier call with its request id has begun.

        Raises :class:`InvalidConfigError` if that call had other arguments, and :class:`OperationInProgressError` if
        the bot has another operation in progress.
        """
        request_id = record.request_id
        found = self._runs.get(request_id)
        if found is None:
            recorded = await self._operations.read("the journal", lambda _: self._journal.find(request_id), Deadline())
            # Another call may have begun it meanwhile.
            found = self._runs.get(request_id) or (None if recorded is None else self._ended(recorded))
        if found is not None:
            if not found.record.asks_the_same(record):
                raise InvalidConfigError(FieldViolation("request_id", "was used for a call with other arguments"))
            return found
        if any(run.record.bot_id == record.bot_id for run in self._runs.values()):
            raise OperationInProgressError(
                "another upgrade, backup or restore of this bot is in progress", bot_id=record.bot_id
            )
        self._begin(record)
        return self._runs[request_id]

    async def close(self) -> None:
        """Stop watching. What has not ended is continued by the next service."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self._operations.changes_under_way:
            self._journal.release()

    def _ended(self, record: Record) -> Run:
        """A run that has ended before, or that an unexpected error has broken off; or one of another service."""
        run = Run(record)
        outcome = record.outcome
        if outcome is not None:
            run.end(partial(_result, outcome))
        else:
            run.end(partial(_raise, (_broken_off if self._is_alone else _anothers)(record.bot_id)))
        return run

    def _begin(self, record: Record) -> asyncio.Event:
        """Begin an operation; the event is set when it has its bot's turn."""
        run = self._runs[record.request_id] = Run(record)
        turn = asyncio.Event()
        task = asyncio.create_task(self._carry_out(run, turn))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return turn

    async def _carry_out(self, run: Run, turn: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()

        def publish(report: Report) -> None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(run.publish, report)

        task = Task(run.record, self._journal, publish)
        outcome: Callable[[], Result] = partial(_raise, ShuttingDownError())
        try:
            outcome = await self._outcome(task, turn)
            await self._shown(task.bot_id)
        finally:
            turn.set()
            if not task.is_unfinished:
                # Else no other operation may begin: the next start of the service continues this one.
                del self._runs[task.record.request_id]
            run.end(outcome)

    async def _outcome(self, task: Task, turn: asyncio.Event) -> Callable[[], Result]:
        """Carry out an operation to its end. Returns a function that returns its result or raises its error."""
        try:
            result: Result = await self._operations.change(
                WorkerPool.MAINTENANCE,
                task.bot_id,
                lambda _: recorded(self._kinds[task.record.kind], task),
                Deadline(),
                grace_seconds=self._grace_of(task.record),
                # It may yet be refused, or wait long for an image before it stops the bot.
                ends_waits=False,
                gives_way=lambda: not task.phase,
                on_turn=turn.set,
            )
        except ContainerManagerError as exc:
            return partial(_raise, exc)
        except Exception as exc:  # noqa: BLE001 - those who watch get it too
            _log.exception("unexpected error: an operation was broken off")
            return partial(_raise, _broken_off(task.bot_id) if task.is_unfinished else exc)
        return lambda: result

    async def _shown(self, bot_id: str) -> None:
        """Wait until every read shows what has become of the bot: a caller that has the result relies on that."""
        try:
            async with asyncio.timeout(_SHOWN_SECONDS):
                await self._look_at(bot_id)
        except TimeoutError:
            pass
        except Exception:  # noqa: BLE001 - the operation has ended, whatever reads show
            _log.exception("unexpected error: bot %s could not be looked at", bot_id)


def _broken_off(bot_id: str) -> InternalError:
    return InternalError(
        "an unexpected error has broken this operation off; the next start of the service continues it", bot_id=bot_id
    )


def _anothers(bot_id: str) -> OperationInProgressError:
    return OperationInProgressError(
        "another service with the same secrets root has begun this operation; if it was killed, the next start of a "
        "service that is alone continues it",
        bot_id=bot_id,
    )


def _result(outcome: Mapping[str, Any]) -> Result:
    error = error_of(outcome)
    if error is not None:
        raise error
    return dict(outcome["result"])


def _raise(error: Exception) -> Result:
    raise error
