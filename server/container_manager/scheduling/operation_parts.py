"""Carries out an operation on an event loop: its parts that may block in worker threads, its waits without one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

from container_manager.deadline import Deadline
from container_manager.errors import CapacityExceededError, ContainerManagerError, EngineTimeoutError
from container_manager.operation import GracePeriod, Operation, Wait
from container_manager.scheduling.worker_pools import WorkerPool, WorkerPools

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Parts(Generic[T]):
    """An operation as the parts between its waits."""

    result: T

    def __init__(
        self,
        begin: Callable[[Deadline], Operation[T] | T],
        deadline: Deadline,
        gives_way: Callable[[], bool] = lambda: False,
    ) -> None:
        self.gives_way = gives_way
        self._begin = begin
        self._deadline = deadline
        self._operation: Operation[T] | None = None
        self._wait: Wait | None = None

    def next(self, failure: Exception | None = None) -> Wait | None:
        """Run up to the next wait, which it returns; ``None``: the operation has ended, with ``result``.

        ``failure`` is raised at the wait where the operation is.
        """
        self._wait = None
        if self._operation is None:
            begun = self._begin(self._deadline)
            if not isinstance(begun, Generator):
                self.result = begun
                return None
            self._operation = begun
        try:
            self._wait = next(self._operation) if failure is None else self._operation.throw(failure)
        except StopIteration as end:
            self.result = end.value
        return self._wait

    def never_begins(self) -> bool:
        """Whether the operation waits for what its caller's end has kept from beginning: its error says so soon."""
        wait = self._wait
        return isinstance(wait, GracePeriod) and wait.never_begins()


async def end_of(wait: Wait, woken: asyncio.Event | None = None) -> None:
    """The end of a wait, or the moment when ``woken`` is set."""
    if wait.longest() == 0:
        return
    loop = asyncio.get_running_loop()
    ended = woken or asyncio.Event()

    def end() -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(ended.set)

    with wait.on_end(end), suppress(TimeoutError):
        async with asyncio.timeout(wait.longest()):
            await ended.wait()


def starts_bot(work: asyncio.Future[Any] | None) -> bool:
    """Whether an operation has started its bot, as a result that is not empty says, or has at least sent the start."""
    if work is None or work.cancelled():
        return False
    exc = work.exception()
    return bool(work.result()) if exc is None else isinstance(exc, ContainerManagerError) and exc.start_sent


async def result_for_caller(
    workers: WorkerPools,
    pool: WorkerPool,
    job: Future[Any],
    work: asyncio.Future[T],
    deadline: Deadline,
    *,
    never_begins: Callable[[], bool] = lambda: False,
) -> T:
    """The operation's result, or the caller's deadline or cancellation, whichever is first; the work goes on.

    ``job``, the operation's first, is cancelled if no worker has started it. It then never runs: its bot's turn ends at
    once.
    """
    try:
        # Wait with asyncio.wait: awaiting the work itself would pass on the caller's cancellation.
        done, _ = await asyncio.wait({work}, timeout=deadline.remaining())
    except asyncio.CancelledError:
        if not job.cancel():
            deadline.cancel()
        work.add_done_callback(log_abandoned)
        raise
    if not done and job.cancel():
        if workers.is_full(pool):
            raise CapacityExceededError("no worker came free before the call's deadline; try again later")
        raise EngineTimeoutError("the call's deadline passed before the operation began; nothing was done")
    if done or not deadline.cancel() or never_begins():
        return await work
    work.add_done_callback(log_abandoned)
    raise EngineTimeoutError(
        "the call's deadline passed before the engine was done; a create is undone, any other change goes on"
    )


def log_abandoned(work: asyncio.Future[Any]) -> None:
    """Log how an operation has ended whose caller had gone."""
    exc = None if work.cancelled() else work.exception()
    if isinstance(exc, ContainerManagerError):
        _log.info("an operation whose caller had gone ended with %s", exc.reason)
    elif exc is not None:
        _log.error("an operation whose caller had gone failed unexpectedly", exc_info=exc)
