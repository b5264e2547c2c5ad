"""Samples containers' resource use for any number of watchers, and not more often than one of them needs."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextvars import Context
from functools import partial

from container_manager.model import RawSample
from container_manager.stats.figures import ContainerStats, stats_between

REQUESTS_AT_ONCE = 128
"""More would overload an engine. With fewer, more containers would wait for an old engine's next sampling round."""

# How long a sample may be shared. Shorter than the shortest interval.
_FRESH_SECONDS = 0.25
# The delay after a sample that gives no figures, such as a container's first one.
_SECOND_SAMPLE_SECONDS = 0.5
# How soon, in a stream with a longer interval, a new container is noticed and a failed sample is repeated.
_LOOK_SECONDS = 2.0

_Sample = asyncio.Future[RawSample | None]


class StatsSampler:
    """Takes samples on request, at most one at a time for each container. Concurrent requests share it."""

    def __init__(self, take: Callable[[str], Awaitable[RawSample | None]]) -> None:
        """``take`` is a backend's ``sample``."""
        self._take = take
        self._slots = asyncio.Semaphore(REQUESTS_AT_ONCE)
        # Samples that may be shared: running or recent ones.
        self._samples: dict[str, asyncio.Task[RawSample | None]] = {}

    def sample(self, container_id: str) -> asyncio.Future[RawSample | None]:
        """A recent sample of the container; ``None`` if it is not running or the engine does not answer in time.

        Each caller has its own future and may cancel it without affecting others.
        """
        task = self._samples.get(container_id)
        if task is None:
            task = self._samples[container_id] = self._begin(container_id)
        return asyncio.shield(task)

    async def close(self) -> None:
        """Cancel running samples."""
        tasks = list(self._samples.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, container_id: str) -> asyncio.Task[RawSample | None]:
        loop = asyncio.get_running_loop()
        stale_from = loop.time() + _FRESH_SECONDS
        # An empty context: the sample is shared and belongs to no single call.
        task = loop.create_task(self._taken(container_id), context=Context())
        task.add_done_callback(lambda _: loop.call_at(stale_from, self._samples.pop, container_id))
        return task

    async def _taken(self, container_id: str) -> RawSample | None:
        async with self._slots:
            return await self._take(container_id)


def _unknown(_: str) -> int | None:
    return None


async def watch(
    sampler: StatsSampler,
    containers: Callable[[], Collection[str]],
    interval_seconds: float,
    started: Callable[[str], int | None] = _unknown,
) -> AsyncGenerator[tuple[str, ContainerStats], None]:
    """Yields container ids with their resource use in every interval, endlessly.

    ``containers()`` returns the ids of the containers that are running now. ``started(container_id)`` returns when a
    container was last started, in nanoseconds since the epoch; ``None``: unknown.

    A container is sampled at multiples of the interval on the loop's clock, so that watchers with the same interval
    share samples. A new container is also sampled twice in quick succession, so that its first figures come soon. For a
    slow reader at most one figure of each container waits; later samples are skipped. Failed samples are repeated;
    errors are never raised.
    """
    watcher = _Watcher(sampler, containers, interval_seconds, started)
    while True:
        watcher.ask()
        answer = await watcher.answered()
        if answer is not None and (stats := watcher.stats(*answer)) is not None:
            yield answer[0], stats


class _Watcher:
    """The state of one stream."""

    def __init__(
        self,
        sampler: StatsSampler,
        containers: Callable[[], Collection[str]],
        interval_seconds: float,
        started: Callable[[str], int | None],
    ) -> None:
        self._sampler = sampler
        self._containers = containers
        self._interval = interval_seconds
        self._started = started
        self._loop = asyncio.get_running_loop()
        self._wake = self._loop.time()
        # When to sample each container next. Infinite while a sample is running.
        self._due: dict[str, float] = {}
        self._before: dict[str, RawSample] = {}
        self._answers: asyncio.Queue[tuple[str, _Sample]] = asyncio.Queue()

    def ask(self) -> None:
        """Start the samples that are due, and update the set of containers."""
        now = self._loop.time()
        if now < self._wake:
            return
        running = dict.fromkeys(self._containers())
        for container_id in self._due.keys() - running.keys():
            del self._due[container_id]
            self._before.pop(container_id, None)
        for container_id in running:
            if self._due.get(container_id, now) <= now:
                self._due[container_id] = math.inf
                self._sampler.sample(container_id).add_done_callback(partial(self._answer, container_id))
        self._wake = min([now + _LOOK_SECONDS, *self._due.values()])

    async def answered(self) -> tuple[str, _Sample] | None:
        """The next container and its sample; ``None`` when it is time to call :meth:`ask`."""
        if not self._answers.empty():
            return self._answers.get_nowait()
        try:
            async with asyncio.timeout_at(self._wake):
                return await self._answers.get()
        except TimeoutError:
            return None

    def stats(self, container_id: str, answer: _Sample) -> ContainerStats | None:
        """The figures from a sample; ``None`` if there are none, or none yet."""
        if self._due.get(container_id) != math.inf:
            # The container has stopped in the meantime.
            return None
        sample = None if answer.cancelled() else answer.result()
        before = self._before.get(container_id)
        stats = None
        if sample is not None and before is not None:
            stats = stats_between(before, sample, self._started(container_id))
        now = self._loop.time()
        due = (now // self._interval + 1) * self._interval
        if sample is None:
            due = min(due, now + _LOOK_SECONDS)
        elif sample != before:
            self._before[container_id] = sample
            due = now + _SECOND_SAMPLE_SECONDS if stats is None else due
        self._due[container_id] = due
        self._wake = min(self._wake, due)
        return stats

    def _answer(self, container_id: str, answer: _Sample) -> None:
        self._answers.put_nowait((container_id, answer))
