"""Feeds all watchers of resource use: one sample of a container at each tick, whoever watches it."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from functools import partial

from container_manager.model import RawSample
from container_manager.pace import Pace
from container_manager.stats.running import Running
from container_manager.stats.sampler import StatsSampler
from container_manager.stats.series import Encode, Series, Watcher, rounded_interval

MESSAGES_PER_SECOND = 5_000
"""To all watchers together. A message takes about 0.05 ms of the event loop."""

_MESSAGES_AT_ONCE = 25
# A new watcher of all bots looks at each container. In steps, since a hundred may come at once.
_BEGUN_AT_ONCE = 100
_BEGINS_PER_SECOND = 1_000
# Ticks of one container at several intervals count as the same one.
_SAME_TICK_SECONDS = 0.01


class StatsFeed:
    """Samples containers while somebody watches them, and sends figures at no more than a bounded rate.

    Its work for the event loop is bounded whatever callers ask for: :data:`MESSAGES_PER_SECOND`, and the samples that
    :class:`StatsSampler` takes in a second. When they ask for more, containers are sampled less often, and watchers
    take turns, in which each receives the newest figures of its containers, one container after another.
    """

    def __init__(self, sampler: StatsSampler, encode: Encode) -> None:
        self._sampler = sampler
        self._encode = encode
        self._pace = Pace(MESSAGES_PER_SECOND, _MESSAGES_AT_ONCE)
        self._begins = Pace(_BEGINS_PER_SECOND, 1)
        self._running: dict[str, Running] = {}
        self._of_bot: dict[str, set[str]] = {}
        # The container of each number, and the numbers that are free.
        self._containers: list[str] = []
        self._free: list[int] = []
        self._series: dict[float, Series] = {}
        # When to sample each container next, and the same in order of time; entries that differ are out of date.
        self._next: dict[str, float] = {}
        self._order: list[tuple[float, str]] = []
        self._sampling: set[str] = set()
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Stop sampling."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def runs(self, container_id: str, bot_id: str, started_ns: int | None) -> None:
        """A container runs, since ``started_ns``."""
        running = self._running.get(container_id)
        if running is not None:
            if running.started_ns != started_ns:
                running.started_ns, running.figures = started_ns, None
            return
        if self._free:
            self._containers[number := self._free.pop()] = container_id
        else:
            number = len(self._containers)
            self._containers.append(container_id)
        running = self._running[container_id] = Running(container_id, bot_id, number, started_ns)
        self._of_bot.setdefault(bot_id, set()).add(container_id)
        now = asyncio.get_running_loop().time() if self._series else 0.0
        for series in self._series.values():
            if series.watches(bot_id):
                series.begin(running, now)
        self._schedule(container_id)

    def ended(self, container_id: str) -> None:
        """A container does not run any more."""
        running = self._running.pop(container_id, None)
        if running is None:
            return
        containers = self._of_bot[running.bot_id]
        containers.discard(container_id)
        if not containers:
            del self._of_bot[running.bot_id]
        for series in self._series.values():
            series.end(running)
        # No watcher has anything under its number any more.
        self._free.append(running.number)
        self._next.pop(container_id, None)

    def running(self, bot_ids: frozenset[str]) -> list[Running]:
        """The running containers of these bots; empty: of all."""
        if not bot_ids:
            return list(self._running.values())
        return [self._running[container_id] for bot_id in bot_ids for container_id in self._of_bot.get(bot_id, ())]

    @asynccontextmanager
    async def watch(self, bot_ids: frozenset[str], interval_seconds: float) -> AsyncIterator[Watcher]:
        """A watcher of these bots; empty: of all. The first figures of each come within a few seconds."""
        interval = rounded_interval(interval_seconds)
        series = self._series.setdefault(interval, Series(interval, self._encode))
        watcher = Watcher(series, bot_ids, self._containers, self._pace)
        series.add(watcher)
        try:
            if self._task is None:
                # An empty context: the work serves all callers.
                self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())
            await self._begin_all(watcher)
            yield watcher
        finally:
            series.discard(watcher)
            if not series.has_watchers():
                del self._series[interval]

    async def _begin_all(self, watcher: Watcher) -> None:
        containers = [running.container_id for running in self.running(watcher.bot_ids)]
        for first in range(0, len(containers), _BEGUN_AT_ONCE):
            await self._begins.turn()
            self._begin(watcher, containers[first : first + _BEGUN_AT_ONCE])

    def _begin(self, watcher: Watcher, containers: list[str]) -> None:
        now = asyncio.get_running_loop().time()
        for container_id in containers:
            if (running := self._running.get(container_id)) is not None:
                watcher.series.begin_for(watcher, running, now)
                self._schedule(container_id)

    def _schedule(self, container_id: str) -> None:
        """Sample the container when the first series needs it, unless that is under way."""
        dues = [series.due[container_id] for series in self._series.values() if container_id in series.due]
        if not dues or container_id in self._sampling or self._next.get(container_id) == min(dues):
            return
        self._next[container_id] = due = min(dues)
        heapq.heappush(self._order, (due, container_id))
        if len(self._order) > 2 * len(self._next):
            self._order = [(due, container_id) for container_id, due in self._next.items()]
            heapq.heapify(self._order)
        if self._order[0] == (due, container_id):
            self._woken.set()

    async def _run(self) -> None:
        time = asyncio.get_running_loop().time
        while True:
            if not self._order or self._order[0][0] > time():
                await self._until(self._order[0][0] if self._order else None)
                continue
            due, container_id = heapq.heappop(self._order)
            if self._next.get(container_id) != due:
                continue
            del self._next[container_id]
            running = self._running[container_id]
            if not self._is_watched(running):
                continue
            self._sampling.add(container_id)
            sample = await self._sampler.begin(running)
            sample.add_done_callback(partial(self._sampled, running, time()))

    async def _until(self, time: float | None) -> None:
        self._woken.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(time):
                await self._woken.wait()

    def _is_watched(self, running: Running) -> bool:
        """Whether anybody watches the container; series whose watchers have left forget it."""
        for series in self._series.values():
            if not series.watches(running.bot_id):
                series.forget(running.container_id)
        return any(running.container_id in series.due for series in self._series.values())

    def _sampled(self, running: Running, began: float, answer: asyncio.Future[RawSample | None]) -> None:
        container_id, now = running.container_id, asyncio.get_running_loop().time()
        self._sampling.discard(container_id)
        # If the container has stopped and started again meanwhile, the sample may be of its former run.
        if self._running.get(container_id) is running:
            sample = None if answer.cancelled() else answer.result()
            for series in self._series.values():
                if series.due.get(container_id, began + 1) <= began + _SAME_TICK_SECONDS:
                    series.take(running, sample, began, now)
        self._schedule(container_id)
