"""Runs the synchronous lifecycle operations in worker threads for asynchronous callers, one change per bot at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from enum import Enum
from typing import Any, TypeVar

from container_manager.deadline import Deadline
from container_manager.errors import (
    CapacityExceededError,
    ContainerManagerError,
    EngineTimeoutError,
    OperationInProgressError,
)
from container_manager.scheduling.keyed_semaphore import KeyedSemaphore

T = TypeVar("T")

_READ_WORKERS = 64
# A container that the engine cannot inspect must not occupy the workers of all others (moby/moby#46782).
_READS_OF_ONE_BOT = 2

_log = logging.getLogger(__name__)


class WorkerPool(Enum):
    """Each pool has its own workers, so slow pulls do not delay stops, and slow stops do not delay reads."""

    PROBE = "probe"
    READ = "read"
    CREATE = "create"
    CHANGE = "change"


class BotOperations:
    """Runs operations for callers on one event loop.

    A caller that gives up (deadline, cancellation) is answered at once. An operation that has begun is not broken off
    by that: it is told through its :class:`Deadline` that nobody waits, keeps its bot until it ends, and ends in a
    state that the engine vouches for. One that has not begun never does.
    """

    def __init__(self, workers: int) -> None:
        sizes = {
            WorkerPool.PROBE: 1,
            WorkerPool.READ: _READ_WORKERS,
            WorkerPool.CREATE: workers,
            WorkerPool.CHANGE: workers,
        }
        self._pools = {pool: ThreadPoolExecutor(size, thread_name_prefix=pool.value) for pool, size in sizes.items()}
        self._changing = KeyedSemaphore(1)
        self._reading = KeyedSemaphore(_READS_OF_ONE_BOT)
        self._under_way: dict[asyncio.Future[Any], WorkerPool] = {}

    @property
    def busy(self) -> bool:
        """Whether any worker has an operation, reads included."""
        return bool(self._under_way)

    @property
    def changes_under_way(self) -> int:
        """How many creates, starts, stops, restarts and removes have not ended yet."""
        return len(self._changes())

    async def probe(self, operation: Callable[[Deadline], T], deadline: Deadline) -> T:
        """Run the check that the engine answers, which must not wait for any other operation."""
        return await self._run(WorkerPool.PROBE, operation, deadline)

    async def read(self, key: str, operation: Callable[[Deadline], T], deadline: Deadline) -> T:
        """Run an operation that changes nothing, beside changes of the same bot. ``key`` names what it reads."""
        deadline.check()
        try:
            end = await self._reading.acquire(key, deadline)
        except TimeoutError:
            raise EngineTimeoutError("the engine did not answer earlier reads of the same container in time") from None
        return await self._run(WorkerPool.READ, operation, deadline, lambda _: end())

    async def change(
        self,
        pool: WorkerPool,
        bot_id: str,
        operation: Callable[[Deadline], T],
        deadline: Deadline,
        *,
        on_turn: Callable[[], None] = lambda: None,
        on_end: Callable[[asyncio.Future[T] | None], None] = lambda _: None,
    ) -> T:
        """The result of an operation that no other change of the same bot overlaps; first come, first served.

        Both are called on the event loop: ``on_turn`` when the bot's turn has come, and then ``on_end`` when the
        operation has ended, whether anyone waits or not, with how it did; ``None``: it could not be started.
        """
        deadline.check()
        try:
            end = await self._changing.acquire(bot_id, deadline)
        except TimeoutError:
            raise OperationInProgressError(
                "another operation on this bot did not end before the call's deadline", bot_id=bot_id
            ) from None

        def ended(work: asyncio.Future[T] | None) -> None:
            try:
                on_end(work)
            finally:
                end()

        try:
            on_turn()
        except BaseException:
            ended(None)
            raise
        return await self._run(pool, operation, deadline, ended)

    async def drain(self, seconds: float) -> bool:
        """Wait for the changes in progress. Returns whether all ended in time."""
        if changes := self._changes():
            await asyncio.wait(changes, timeout=seconds)
        return not self._changes()

    def close(self) -> None:
        """Stop idle workers. Busy ones stop after their operation."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def _changes(self) -> list[asyncio.Future[Any]]:
        return [work for work, pool in self._under_way.items() if pool in (WorkerPool.CREATE, WorkerPool.CHANGE)]

    async def _run(
        self,
        pool: WorkerPool,
        operation: Callable[[Deadline], T],
        deadline: Deadline,
        end: Callable[[asyncio.Future[T] | None], None] = lambda _: None,
    ) -> T:
        """The operation's result, or the caller's deadline or cancellation, whichever is first; the work goes on.

        An operation that no worker has started is withdrawn, and then never runs: its bot's turn ends at once.
        """

        def ended(work: asyncio.Future[T]) -> None:
            del self._under_way[work]
            end(work)

        try:
            # In the call's context, so that the worker's log lines and spans belong to the call.
            job = self._pools[pool].submit(copy_context().run, operation, deadline)
        except BaseException:
            end(None)
            raise
        work = asyncio.wrap_future(job)
        self._under_way[work] = pool
        work.add_done_callback(ended)
        try:
            # Wait with asyncio.wait: awaiting the work itself would pass on the caller's cancellation.
            done, _ = await asyncio.wait({work}, timeout=deadline.remaining())
        except asyncio.CancelledError:
            if not job.cancel():
                deadline.cancel()
                work.add_done_callback(_log_abandoned)
            raise
        if not done and job.cancel():
            raise CapacityExceededError("no worker came free before the call's deadline; try again later")
        if done or not deadline.cancel():
            return await work
        work.add_done_callback(_log_abandoned)
        raise EngineTimeoutError(
            "the call's deadline passed before the engine was done; a create is undone, any other change goes on"
        )


def _log_abandoned(work: asyncio.Future[Any]) -> None:
    exc = None if work.cancelled() else work.exception()
    if exc is None:
        return
    if not isinstance(exc, ContainerManagerError):
        _log.error("an operation whose caller had gone failed unexpectedly", exc_info=exc)
    else:
        _log.info("an operation whose caller had gone ended with %s", exc.reason)
