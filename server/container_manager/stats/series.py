"""The figures of containers at one interval, computed and encoded once for all their watchers."""

from __future__ import annotations

import asyncio
import math
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from container_manager.model import RawSample
from container_manager.pace import Pace
from container_manager.stats.figures import ContainerStats, stats_between
from container_manager.stats.running import Figures, Running
from container_manager.stats.sampler import FRESH_SECONDS

INTERVALS_SECONDS = (
    0.5,
    1.0,
    2.0,
    3.0,
    5.0,
    10.0,
    15.0,
    20.0,
    30.0,
    *(60.0 * n for n in (1, 2, 5, 10, 15, 20, 30, 60)),
)
"""Few, since each that somebody uses keeps figures of all containers: about 0.6 KB of each."""

_TICK_SECONDS = 0.5
# The delay after a sample that gives no figures, such as a container's first one.
_SECOND_SAMPLE_SECONDS = 0.5
# A tick that follows a sample sooner than this is left out.
_NEAR_SECONDS = 0.25
# How soon a failed sample is repeated, and how old figures may be that a new watcher begins with.
_SOON_SECONDS = 2.0

# What a watcher knows of a container's figures.
_PENDING, _MISSING = 1, 2

Encode = Callable[[str, str, ContainerStats], bytes]
"""The wire form of figures, from a bot's id, its container's id and the figures."""


def rounded_interval(seconds: float) -> float:
    """The one of :data:`INTERVALS_SECONDS` that is kept for an interval that was asked for: the next one."""
    return INTERVALS_SECONDS[bisect_left(INTERVALS_SECONDS, seconds)]


class Watcher:
    """One stream's place: for each container at most one message waits, the newest."""

    def __init__(self, series: Series, bot_ids: frozenset[str], containers: Sequence[str], pace: Pace) -> None:
        """``bot_ids``: empty for all. ``containers``: ids by number. ``pace`` gives turns to all watchers together."""
        self.series = series
        self.bot_ids = bot_ids
        self._containers = containers
        self._pace = pace
        # One byte for each container, by number.
        self._states = bytearray()
        # In turn from here on: a reader that is late skips no container, only figures.
        self._place = 0
        self._waiter: asyncio.Future[None] | None = None
        self._in_line = False

    async def next(self) -> bytes:
        """The next message. Waits for figures, and for a turn."""
        while True:
            self._waiter = asyncio.get_running_loop().create_future()
            self._in_line = False
            if _PENDING in self._states:
                self._get_in_line()
            try:
                await self._waiter
            finally:
                self._waiter = None
            while _PENDING in self._states:
                number = self._states.find(_PENDING, self._place)
                self._place = number + 1
                if number < 0:
                    continue
                self._states[number] = 0
                if (newest := self.series.newest.get(self._containers[number])) is not None:
                    return newest.message

    def offer(self, number: int) -> None:
        """There are new figures of a container."""
        self._set(number, _PENDING)
        self._get_in_line()

    def miss(self, number: int) -> None:
        """The container's figures are older than this watcher, and it is sampled for it before its tick."""
        self._set(number, _MISSING)

    def clear(self, number: int) -> None:
        """Nothing waits of a container."""
        if number < len(self._states):
            self._states[number] = 0

    def misses(self, number: int) -> bool:
        """Whether no figures have come since :meth:`miss`."""
        return self._states[number : number + 1] == bytes((_MISSING,))

    def _set(self, number: int, state: int) -> None:
        if number >= len(self._states):
            self._states.extend(bytes(number + 1 - len(self._states)))
        self._states[number] = state

    def _get_in_line(self) -> None:
        if self._waiter is not None and not self._in_line:
            self._in_line = True
            self._pace.put(self._waiter)


@dataclass(slots=True)
class _Newest:
    """A container's newest figures, encoded, and when they came on the loop's clock."""

    message: bytes
    time: float


class Series:
    """One interval: when each container is due, what its last sample was, and who watches it."""

    def __init__(self, interval_seconds: float, encode: Encode) -> None:
        """``interval_seconds``: as :func:`rounded_interval` returns it."""
        self.due: dict[str, float] = {}
        """When each watched container is to be sampled next, on the loop's clock."""
        self.newest: dict[str, _Newest] = {}
        self._interval = interval_seconds
        self._encode = encode
        self._before: dict[str, RawSample] = {}
        # Due before their tick, for the watchers that miss them.
        self._early: set[str] = set()
        self._of_all: set[Watcher] = set()
        # Tuples: most bots have one watcher, and a set takes four times the memory.
        self._of_bot: dict[str, tuple[Watcher, ...]] = {}

    def add(self, watcher: Watcher) -> None:
        """Serve one more watcher."""
        if not watcher.bot_ids:
            self._of_all.add(watcher)
        for bot_id in watcher.bot_ids:
            self._of_bot[bot_id] = (*self._of_bot.get(bot_id, ()), watcher)

    def discard(self, watcher: Watcher) -> None:
        """Serve the watcher no more."""
        self._of_all.discard(watcher)
        for bot_id in watcher.bot_ids:
            watchers = tuple(each for each in self._of_bot.pop(bot_id) if each is not watcher)
            if watchers:
                self._of_bot[bot_id] = watchers

    def has_watchers(self) -> bool:
        """Whether anybody watches."""
        return bool(self._of_all or self._of_bot)

    def watches(self, bot_id: str) -> bool:
        """Whether anybody watches the bot."""
        return bool(self._of_all) or bot_id in self._of_bot

    def begin(self, running: Running, now: float) -> None:
        """A container runs that is watched: sample it now."""
        self.due.setdefault(running.container_id, now)

    def begin_for(self, watcher: Watcher, running: Running, now: float) -> None:
        """A new watcher watches a container: let it have recent figures soon."""
        container_id = running.container_id
        newest = self.newest.get(container_id)
        if newest is None:
            self.begin(running, now)
        elif newest.time >= now - _SOON_SECONDS:
            watcher.offer(running.number)
        else:
            watcher.miss(running.number)
            if self.due[container_id] > now:
                self._early.add(container_id)
                self.due[container_id] = now

    def end(self, running: Running) -> None:
        """A container runs no more; another one may get its number."""
        self.forget(running.container_id)
        for watcher in self._watchers(running.bot_id):
            watcher.clear(running.number)

    def forget(self, container_id: str) -> None:
        """Nobody watches a container any more, or it runs no more."""
        for known in (self.due, self.newest, self._before):
            known.pop(container_id, None)
        self._early.discard(container_id)

    def take(self, running: Running, sample: RawSample | None, began: float, now: float) -> None:
        """Take a sample that began when the container was due. ``None``: it failed."""
        container_id = running.container_id
        if sample is None:
            tick = self._tick_after(container_id, now)
            self.due[container_id] = min(tick, now + _SOON_SECONDS)
            if self.due[container_id] == tick:
                self._early.discard(container_id)
            return
        self.due[container_id] = self._tick_after(container_id, began + _NEAR_SECONDS)
        before = self._before.get(container_id)
        if sample == before:
            return
        self._before[container_id] = sample
        stats = None if before is None else stats_between(before, sample, running.started_ns)
        if stats is None:
            self.due[container_id] = now + _SECOND_SAMPLE_SECONDS
            return
        message = self._encode(running.bot_id, container_id, stats)
        self.newest[container_id] = _Newest(message, now)
        running.figures = Figures(message, began - FRESH_SECONDS)
        # A sample just before the tick stands for the tick.
        is_early = container_id in self._early and self._tick_after(container_id, began) > began + _NEAR_SECONDS
        self._early.discard(container_id)
        for watcher in self._watchers(running.bot_id):
            if not is_early or watcher.misses(running.number):
                watcher.offer(running.number)

    def _watchers(self, bot_id: str) -> Iterator[Watcher]:
        return chain(self._of_all, self._of_bot.get(bot_id, ()))

    def _tick_after(self, container_id: str, time: float) -> float:
        """The container's next tick after ``time``: containers spread over the interval.

        A container's ticks at a longer interval are also ticks at a shorter one, where one divides the other.
        """
        place = zlib.crc32(container_id.encode())
        ticks = round(self._interval / _TICK_SECONDS)
        first = (place % ticks + place % 1009 / 1009) * _TICK_SECONDS
        return first + (math.floor((time - first) / self._interval) + 1) * self._interval
