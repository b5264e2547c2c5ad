"""Runs the lifecycle operations for callers on an event loop, one change per bot at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

from container_manager.bot_locks import BotLocks
from container_manager.deadline import Deadline
from container_manager.errors import (
    CapacityExceededError,
    EngineTimeoutError,
    OperationInProgressError,
)
from container_manager.operation import GracePeriod, Operation, Pull, Wait
from container_manager.scheduling.bot_turns import BotTurns
from container_manager.scheduling.grace_periods import GracePeriods
from container_manager.scheduling.keyed_semaphore import KeyedSemaphore
from container_manager.scheduling.operation_parts import Parts, end_of, result_for_caller, starts_bot
from container_manager.scheduling.starts import Starts
from container_manager.scheduling.worker_pools import WorkerPool, WorkerPools, pool_sizes

T = TypeVar("T")

# A container that the engine cannot inspect must not occupy the workers of all others (moby/moby#46782).
_READS_OF_ONE_BOT = 2


class BotOperations:
    """Runs operations for callers on one event loop.

    An operation has a worker thread while it works, and none while it waits for an image, a grace period or a name.

    A caller that gives up (deadline, cancellation) is answered at once. An operation that has begun then runs to its
    end, and keeps its bot's turn until then; its :class:`Deadline` says that the caller is gone. One that has not
    begun never runs.
    """

    def __init__(
        self,
        workers: int,
        *,
        most_changes: int = 2000,
        most_pulling: int = 500,
        starts: Starts | None = None,
        locks: BotLocks | None = None,
    ) -> None:
        """``workers``: threads for creates; other changes, secrets and files, actions and reloads have as many each.

        ``most_changes`` may be in progress, including those that wait or whose callers are gone, and as many upgrades,
        backups and restores; each has at most one connection to an engine. ``most_pulling`` of all these may wait for
        their images. ``starts`` admits starts; ``None``: all at once. ``locks`` keep changes of other processes away,
        and are closed with this.
        """
        self.workers = WorkerPools(pool_sizes(workers))
        self._most_changes = most_changes
        self._most_pulling = most_pulling
        self._turns = BotTurns(locks, self.workers)
        self._reading = KeyedSemaphore(_READS_OF_ONE_BOT)
        self._acting = KeyedSemaphore(1)
        self._grace_periods = GracePeriods()
        self._starts = starts
        # Bots: each has one change at a time.
        self._pulling: set[str] = set()
        self._changes: set[asyncio.Future[Any]] = set()
        self._maintenance: set[asyncio.Future[Any]] = set()

    @property
    def changes_under_way(self) -> int:
        """How many changes, upgrades, backups and restores have not ended yet."""
        return len(self._changes) + len(self._maintenance)

    async def probe(self, operation: Callable[[Deadline], T], deadline: Deadline) -> T:
        """Run the check that the engine answers, which must not wait for any other operation."""
        return await self._read(WorkerPool.PROBE, operation, deadline)

    async def read(self, key: str, operation: Callable[[Deadline], T], deadline: Deadline) -> T:
        """Run an operation that changes nothing, beside changes of the same bot. ``key`` names it, for a person.

        At most two of one key run at once.
        """
        deadline.check()
        try:
            end = await self._reading.acquire(key, deadline)
        except TimeoutError:
            raise EngineTimeoutError(f"earlier calls for {key} did not end before the call's deadline") from None
        return await self._read(WorkerPool.READ, operation, deadline, lambda _: end())

    async def act(
        self,
        bot_id: str,
        operation: Callable[[Deadline], T],
        deadline: Deadline,
        pool: WorkerPool = WorkerPool.ACTION,
    ) -> T:
        """Run a program in a bot, beside changes of the same bot, after the programs that were asked for before."""
        deadline.check()
        try:
            end = await self._acting.acquire(bot_id, deadline)
        except TimeoutError:
            raise OperationInProgressError(
                "another action of this bot did not end before the call's deadline", bot_id=bot_id
            ) from None
        return await self._read(pool, operation, deadline, lambda _: end())

    async def change(
        self,
        pool: WorkerPool,
        bot_id: str,
        operation: Callable[[Deadline], Operation[T] | T],
        deadline: Deadline,
        *,
        grace_seconds: float | None = None,
        ends_waits: bool = True,
        starts: Callable[[], bool] = lambda: False,
        gives_way: Callable[[], bool] = lambda: False,
        on_turn: Callable[[], None] = lambda: None,
        on_end: Callable[[asyncio.Future[T] | None], None] = lambda _: None,
    ) -> T:
        """The result of an operation that no other change of the same bot overlaps; first come, first served.

        ``grace_seconds``, of an operation that ends a process: while it waits for its turn, it ends the grace period
        of another one as soon as its own would end. ``ends_waits``: it also ends the waits of operations that give way,
        at once, and the wait for a program in the bot. False for one that may yet leave the bot as it is.

        ``starts``: whether the operation is going to start the bot, asked when its turn has come. It then waits until
        it is admitted. It has started the bot if its result is not empty, or if its error has ``start_sent``.

        ``gives_way``: whether the operation has changed nothing yet, asked at each of its waits, also for a worker. A
        call that ``ends_waits`` ends such a wait with :class:`OperationInProgressError`, as it ends that of a start.

        The callbacks are called on the event loop: ``on_turn`` when the operation may begin, and then ``on_end`` when
        the operation has ended, whether anyone waits or not, with how it did; ``None``: it could not be started.
        """
        deadline.check()
        with self._grace_periods.waiting(bot_id, grace_seconds, ends_waits=ends_waits):
            if self._starts is not None and grace_seconds is not None and ends_waits:
                self._starts.withdraw(bot_id)
            end = await self._turns.acquire(bot_id, deadline)

        try:
            place = None
            if self._starts is not None and starts():
                is_overtaken = self._grace_periods.is_awaited(bot_id)
                place = await self._starts.admit(bot_id, deadline, is_overtaken=is_overtaken)
        except BaseException:
            end()
            raise

        under_way = self._maintenance if pool is WorkerPool.MAINTENANCE else self._changes

        def ended(work: asyncio.Future[T] | None) -> None:
            self._pulling.discard(bot_id)
            if work is not None:
                under_way.discard(work)
            try:
                on_end(work)
            finally:
                if place is not None:
                    place.ended(started=starts_bot(work))
                end()

        try:
            on_turn()
            self._check_room(under_way)
            parts = Parts(operation, deadline, gives_way)
            job = self.workers.submit(pool, parts.next)
        except BaseException:
            ended(None)
            raise
        work = asyncio.ensure_future(self._finish(pool, bot_id, parts, job, deadline))
        under_way.add(work)
        work.add_done_callback(ended)
        return await result_for_caller(self.workers, pool, job, work, deadline, never_begins=parts.never_begins)

    def lent(self, bot_id: str) -> AbstractContextManager[None]:
        """As :meth:`Starts.lent`."""
        return nullcontext() if self._starts is None else self._starts.lent(bot_id)

    async def drain(self, seconds: float) -> bool:
        """Wait for the changes in progress. Returns whether all ended in time."""
        if under_way := self._changes | self._maintenance:
            await asyncio.wait(under_way, timeout=seconds)
        return not self.changes_under_way

    def close(self) -> None:
        """Stop idle workers. Busy ones stop after their operation; their bots' locks end with the process."""
        if self._starts is not None:
            self._starts.close()
        if not self.changes_under_way:
            self._turns.close()
        self.workers.close()

    def _check_room(self, under_way: Collection[object]) -> None:
        if len(under_way) >= self._most_changes:
            what = "changes" if under_way is self._changes else "upgrades, backups and restores"
            raise CapacityExceededError(
                f"there are {len(under_way)} {what} under way already, the most that the server takes; try again later"
            )

    async def _read(
        self,
        pool: WorkerPool,
        operation: Callable[[Deadline], T],
        deadline: Deadline,
        ended: Callable[[asyncio.Future[T] | None], None] = lambda _: None,
    ) -> T:
        try:
            job = self.workers.submit(pool, lambda: operation(deadline))
        except BaseException:
            ended(None)
            raise
        work = asyncio.wrap_future(job)
        work.add_done_callback(ended)
        return await result_for_caller(self.workers, pool, job, work, deadline)

    async def _finish(
        self, pool: WorkerPool, bot_id: str, parts: Parts[T], first: Future[Wait | None], deadline: Deadline
    ) -> T:
        """Wait, and run the parts after the first, until the operation has ended: in a worker if they may block."""
        if parts.gives_way() and (overtaken := await self._grace_periods.before_begin(bot_id, first)) is not None:
            raise overtaken
        wait = await asyncio.wrap_future(first)
        while wait is not None:
            with self.lent(bot_id):
                failure = await self._wait(pool, bot_id, wait, gives_way=parts.gives_way())
            # An operation that is a part of a longer one does not know what comes after it.
            blocks = wait.rest_may_block or pool is not WorkerPool.CHANGE
            wait = await self._next(pool, bot_id, parts, failure, deadline) if blocks else parts.next(failure)
        return parts.result

    async def _next(
        self, pool: WorkerPool, bot_id: str, parts: Parts[T], failure: Exception | None, deadline: Deadline
    ) -> Wait | None:
        """Run a part after a wait; in another pool if it need not go on, so that the bot's turn ends soon."""
        job = self.workers.submit(pool, partial(parts.next, failure))
        take_back = deadline.on_cancel(job.cancel)
        overtaken = await self._grace_periods.before_begin(bot_id, job) if parts.gives_way() else None
        running = asyncio.wrap_future(job)
        await asyncio.wait({running})
        take_back()
        if running.cancelled():
            part = partial(parts.next, failure or overtaken)
            running = asyncio.wrap_future(self.workers.submit(WorkerPool.GIVEN_UP, part))
        return await running

    async def _wait(self, pool: WorkerPool, bot_id: str, wait: Wait, *, gives_way: bool) -> Exception | None:
        """Wait. Returns the error that the operation is to end with instead."""
        # Maintenance that has changed something has to go on.
        is_refusable = gives_way or pool is not WorkerPool.MAINTENANCE
        if not isinstance(wait, Pull):
            self._pulling.discard(bot_id)
        elif is_refusable and bot_id not in self._pulling and len(self._pulling) >= self._most_pulling:
            return CapacityExceededError(
                f"{len(self._pulling)} bots wait for images already, the most that the server takes; try again later"
            )
        else:
            # Until it is over: a pull that tells how far it is consists of many waits.
            self._pulling.add(bot_id)
        if isinstance(wait, GracePeriod):
            await self._grace_periods.run(bot_id, wait, end_of(wait))
            return None
        failure = None
        if gives_way:
            failure = await self._grace_periods.unless_awaited(bot_id, wait)
        else:
            await end_of(wait)
        if wait.future is not None and wait.future.done():
            self._pulling.discard(bot_id)
        return failure
