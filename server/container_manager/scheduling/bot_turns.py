"""The turn of one change of a bot: no other change of this service overlaps it, nor an adoption of the bot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from container_manager.bot_locks import BotLocks
from container_manager.deadline import Deadline
from container_manager.errors import EngineTimeoutError, OperationInProgressError
from container_manager.scheduling.keyed_semaphore import KeyedSemaphore
from container_manager.scheduling.worker_pools import WorkerPool, WorkerPools

# An adoption has the lock for the few milliseconds of a look and a rename.
_POLL_SECONDS = 0.02

_log = logging.getLogger(__name__)


class BotTurns:
    """The turns of all bots, each first come, first served."""

    def __init__(self, locks: BotLocks | None, workers: WorkerPools) -> None:
        """``locks``: shared with other processes; ``None``: there are none. ``workers`` wait for their disk."""
        self._locks = locks
        self._workers = workers
        self._changing = KeyedSemaphore(1)

    def __len__(self) -> int:
        """How many bots have a change that has its turn or waits for it."""
        return len(self._changing)

    async def acquire(self, bot_id: str, deadline: Deadline) -> Callable[[], None]:
        """Wait for the bot's turn. Returns the function that ends it.

        At the deadline, raises :class:`OperationInProgressError` if another operation has the bot, and
        :class:`EngineTimeoutError` if the disk has not answered whether another process has it.
        """
        try:
            end = await self._changing.acquire(bot_id, deadline)
        except TimeoutError:
            raise _held(bot_id) from None
        locks = self._locks
        if locks is None:
            return end

        def release() -> None:
            if self._workers.is_closed:
                # The kernel releases the lock when the process ends.
                end()
                return
            # The pool's only worker has what comes next for the bot after this.
            try:
                job = self._workers.submit(WorkerPool.LOCK, partial(locks.release, bot_id))
                job.add_done_callback(partial(_log_failure, bot_id))
            finally:
                end()

        share = partial(locks.share, bot_id)
        is_held = False
        job: Future[bool] | None = None
        try:
            async with asyncio.timeout(deadline.remaining()):
                while not await asyncio.wrap_future(job := self._workers.submit(WorkerPool.LOCK, share)):
                    is_held = True  # by another process
                    await asyncio.sleep(_POLL_SECONDS)
        except BaseException as exc:
            if job is None or job.cancel():
                end()
            else:
                # The worker may have shared it meanwhile.
                release()
            if not isinstance(exc, TimeoutError):
                raise
            if is_held:
                raise _held(bot_id) from None
            raise EngineTimeoutError(
                f"the lock file {locks.path} did not answer before the call's deadline; nothing was done", bot_id=bot_id
            ) from None
        return release

    def close(self) -> None:
        """Release the locks; without effect if that has been done. No change may be under way."""
        locks, self._locks = self._locks, None
        if locks is not None:
            self._workers.submit(WorkerPool.LOCK, locks.close)


def _held(bot_id: str) -> OperationInProgressError:
    return OperationInProgressError(
        "another operation on this bot did not end before the call's deadline", bot_id=bot_id
    )


def _log_failure(bot_id: str, released: Future[None]) -> None:
    if (exc := released.exception()) is not None:
        _log.error("the lock of bot %s could not be released", bot_id, exc_info=exc)
