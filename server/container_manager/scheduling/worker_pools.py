"""Bounded pools of worker threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import copy_context
from enum import Enum
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class WorkerPool(Enum):
    """Each pool has its own workers: nothing slow delays a stop, and nothing delays a read."""

    PROBE = "probe"
    LOCK = "lock"
    """Bots' locks, which one thread at a time may use, on a disk that may be slow."""
    READ = "read"
    CREATE = "create"
    CHANGE = "change"
    PROVISION = "provision"
    """Secrets and files, on a disk that may be slow."""
    ACTION = "action"
    READY_PROBE = "ready-probe"
    """The actions ``ready`` of bots that have been started."""
    RELOAD = "reload"
    MAINTENANCE = "maintenance"
    GIVEN_UP = "given-up"
    """Operations whose callers have gone while they waited for a worker of their own pool."""


# Threads that run from the start, in each pool at least one. To start a thread takes the event loop a moment, and more
# when many start at once.
_READY = {WorkerPool.CREATE: 8, WorkerPool.CHANGE: 16}


_SIZES = {
    WorkerPool.PROBE: 1,
    WorkerPool.LOCK: 1,
    WorkerPool.READ: 64,
    WorkerPool.READY_PROBE: 64,
    # More than may work on states at once: an operation whose bot is stopped goes on beside them.
    WorkerPool.MAINTENANCE: 16,
    WorkerPool.GIVEN_UP: 4,
}


def pool_sizes(workers: int) -> dict[WorkerPool, int]:
    """How many workers each pool has; ``workers``: those whose size is the operator's."""
    return {pool: _SIZES.get(pool, workers) for pool in WorkerPool}


class WorkerPools:
    """Runs functions in threads. Each pool has some from the start, and others as they are needed."""

    def __init__(self, sizes: Mapping[WorkerPool, int]) -> None:
        self._pools = {pool: ThreadPoolExecutor(size, thread_name_prefix=pool.value) for pool, size in sizes.items()}
        self._sizes = dict(sizes)
        self._running: dict[WorkerPool, set[Future[Any]]] = {pool: set() for pool in sizes}
        # The executors' own queues would keep what is cancelled. A worker has what waits until nothing does.
        self._waiting: dict[WorkerPool, dict[Future[Any], Callable[[], Any]]] = {pool: {} for pool in sizes}
        self._workers = dict.fromkeys(sizes, 0)
        self._lock = threading.Lock()
        self._jobs: set[Future[Any]] = set()
        self.is_closed = False
        started = threading.Event()
        for pool, size in sizes.items():
            for _ in range(min(size, _READY.get(pool, 1))):
                # A pool starts a thread for each job while none is idle.
                self._pools[pool].submit(started.wait)
        started.set()

    def idle_within(self, seconds: float) -> bool:
        """Wait for the functions that run or wait for a thread. Returns whether all have ended in time."""
        return not wait(set(self._jobs), seconds).not_done

    def is_full(self, pool: WorkerPool) -> bool:
        """Whether every worker of the pool has a job."""
        return len(self._running[pool]) >= self._sizes[pool]

    def submit(self, pool: WorkerPool, function: Callable[[], T]) -> Future[T]:
        """Run a function in a thread of the pool, in the caller's context, to which its log lines and spans belong.

        A job that is cancelled before it has begun never runs, and leaves nothing in the pool's queue: the function and
        the context may hold a large request.
        """
        job: Future[T] = Future()
        with self._lock:
            if self.is_closed:
                raise RuntimeError("the pools are closed")
            self._waiting[pool][job] = partial(copy_context().run, function)
            needs_worker = self._workers[pool] < self._sizes[pool]
            self._workers[pool] += needs_worker
        self._jobs.add(job)
        job.add_done_callback(partial(self._forget, pool))
        if needs_worker:
            # If the machine has no thread to spare, the executor gives it to one that it has.
            with suppress(RuntimeError):
                self._pools[pool].submit(self._work, pool)
        return job

    def _forget(self, pool: WorkerPool, job: Future[Any]) -> None:
        """A job has ended or was cancelled."""
        self._jobs.discard(job)
        with self._lock:
            self._waiting[pool].pop(job, None)

    def _work(self, pool: WorkerPool) -> None:
        """Run what waits, in a thread of the pool."""
        while (job := self._next(pool)) is not None:
            self._run(pool, *job)
            del job

    def _next(self, pool: WorkerPool) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._lock:
            waiting = self._waiting[pool]
            for job in waiting:
                return job, waiting.pop(job)
            self._workers[pool] -= 1
            return None

    def _run(self, pool: WorkerPool, job: Future[Any], function: Callable[[], Any]) -> None:
        if not job.set_running_or_notify_cancel():
            return
        self._running[pool].add(job)
        try:
            result = function()
        except BaseException as exc:  # noqa: BLE001 - a future carries any outcome
            job.set_exception(exc)
        else:
            job.set_result(result)
        finally:
            self._running[pool].discard(job)
            # An error's traceback keeps this frame.
            del job, function

    def close(self) -> None:
        """Stop idle workers. Busy ones stop after their job. Of the jobs that wait, only those of locks still run."""
        with self._lock:
            self.is_closed = True
            for pool, waiting in self._waiting.items():
                if pool is not WorkerPool.LOCK:
                    waiting.clear()
        for executor in self._pools.values():
            executor.shutdown(wait=False)
