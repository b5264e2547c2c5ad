"""Running the synchronous lifecycle operations for asynchronous callers: in order per bot, in threads, to their end."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Any, TypeVar

from container_manager.deadline import Deadline
from container_manager.errors import (
    CapacityExceededError,
    ContainerManagerError,
    EngineTimeoutError,
    OperationInProgressError,
)

T = TypeVar("T")

_READ_WORKERS = 16

_log = logging.getLogger(__name__)


class Lane(Enum):
    """Operations share workers within a lane only: slow pulls hold up no stop, and stubborn stops no status."""

    READ = "read"
    CREATE = "create"
    CHANGE = "change"


class Operations:
    """Runs operations for callers on one event loop.

    A caller that gives up (deadline, cancellation) is answered at once. An operation that has begun is not broken off
    by that: it is told through its :class:`Deadline` that nobody waits, keeps its bot until it ends, and ends in a
    state that the engine vouches for. One that has not begun never does.
    """

    def __init__(self, workers: int) -> None:
        sizes = {Lane.READ: _READ_WORKERS, Lane.CREATE: workers, Lane.CHANGE: workers}
        self._pools = {lane: ThreadPoolExecutor(size, thread_name_prefix=lane.value) for lane, size in sizes.items()}
        self._locks: defaultdict[str, _CountedLock] = defaultdict(_CountedLock)
        self._changes: set[asyncio.Future[Any]] = set()

    @property
    def changes_under_way(self) -> int:
        """How many creates, starts, stops, restarts and removes have not ended yet."""
        return len(self._changes)

    async def read(self, operation: Callable[[Deadline], T], deadline: Deadline) -> T:
        """The result of an operation that changes nothing; beside any change of the same bot."""
        return await self._run(Lane.READ, operation, deadline, set())

    async def change(self, lane: Lane, bot_id: str, operation: Callable[[Deadline], T], deadline: Deadline) -> T:
        """The result of an operation that no other change of the same bot overlaps; first come, first served."""
        release = await self._acquire(bot_id, deadline)
        return await self._run(lane, operation, deadline, self._changes, release)

    async def drain(self, seconds: float) -> bool:
        """Wait for the changes under way; whether all have ended in time."""
        if self._changes:
            await asyncio.wait(self._changes, timeout=seconds)
        return not self._changes

    def close(self) -> None:
        """Let idle workers go. Those at work end with their operation."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    async def _acquire(self, bot_id: str, deadline: Deadline) -> Callable[[], None]:
        """Wait for the bot's turn; what ends it again."""
        lock = self._locks[bot_id]
        lock.users += 1

        def leave() -> None:
            lock.users -= 1
            if not lock.users:
                del self._locks[bot_id]

        try:
            async with asyncio.timeout(deadline.remaining()):
                await lock.acquire()
        except TimeoutError:
            leave()
            raise OperationInProgressError(
                "another operation on this bot did not end before the call's deadline", bot_id=bot_id
            ) from None
        except BaseException:
            leave()
            raise

        def release() -> None:
            lock.release()
            leave()

        return release

    async def _run(
        self,
        lane: Lane,
        operation: Callable[[Deadline], T],
        deadline: Deadline,
        register: set[asyncio.Future[Any]],
        release: Callable[[], None] | None = None,
    ) -> T:
        """The operation's result, or the caller's deadline or cancellation, whichever is first; the work goes on."""
        begun = False

        def begin() -> T:
            nonlocal begun
            deadline.check()
            begun = True
            return operation(deadline)

        work = asyncio.get_running_loop().run_in_executor(self._pools[lane], begin)
        register.add(work)
        work.add_done_callback(register.discard)
        if release is not None:
            work.add_done_callback(lambda _: release())
        try:
            # Not awaited itself: that would hand the caller's cancellation on to it.
            done, _ = await asyncio.wait({work}, timeout=deadline.remaining())
        except asyncio.CancelledError:
            deadline.cancel()
            work.add_done_callback(_log_abandoned)
            raise
        if done or not deadline.cancel():
            return await work
        work.add_done_callback(_log_abandoned)
        if not begun:
            raise CapacityExceededError("no worker came free before the call's deadline; try again later")
        raise EngineTimeoutError(
            "the call's deadline passed before the engine was done; a create is undone, any other change goes on"
        )


class _CountedLock(asyncio.Lock):
    """A lock that knows how many hold it or wait for it, so that the last one can drop it."""

    def __init__(self) -> None:
        super().__init__()
        self.users = 0


def _log_abandoned(work: asyncio.Future[Any]) -> None:
    exc = None if work.cancelled() else work.exception()
    if exc is None:
        return
    if not isinstance(exc, ContainerManagerError):
        _log.error("an operation whose caller had gone failed unexpectedly", exc_info=exc)
    else:
        _log.info("an operation whose caller had gone ended with %s: %s", exc.reason, exc)
