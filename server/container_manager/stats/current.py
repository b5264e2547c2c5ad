"""The present figures of containers, for callers that do not watch them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial

from container_manager.pace import Pace
from container_manager.stats.feed import StatsFeed
from container_manager.stats.figures import stats_between
from container_manager.stats.running import Figures, Running
from container_manager.stats.sampler import FRESH_SECONDS, StatsSampler
from container_manager.stats.series import Encode

PATIENCE_SECONDS = 2.25
"""How long the figures of a group of containers may take. An engine before 23.0 needs two seconds for two samples."""
CONTAINERS_AT_ONCE = 256
"""The size of a group. A call for all containers must not fill the sampler's queue: others would wait behind it."""

# Between two samples. Less would make the CPU percentage coarse.
_APART_SECONDS = 0.5
# A restart between two samples may leave them without figures. The next sample has some.
_ATTEMPTS = 2
# A caller may look at thousands of containers, and callers that share samples continue at the same moment.
_LOOKS_AT_ONCE = 500
_STEPS_PER_SECOND, _STEPS_AT_ONCE = 5_000, 5


class _Taking:
    """New figures of one container, on their way to all who wait for them."""

    task: asyncio.Task[None]
    time = math.inf
    """Their sample begins no earlier than this, as in :class:`Figures`; infinite: no earlier than now."""


class CurrentStats:
    """Takes new figures only of containers whose newest ones are too old, and once for all who ask meanwhile."""

    def __init__(self, sampler: StatsSampler, feed: StatsFeed, encode: Encode) -> None:
        self._sampler = sampler
        self._feed = feed
        self._encode = encode
        self._pace = Pace(_STEPS_PER_SECOND, _STEPS_AT_ONCE)
        # By container, the ones that new callers may join.
        self._takings: dict[Running, _Taking] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Stop sampling."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def figures(self, bot_ids: frozenset[str], max_age_seconds: float) -> list[tuple[str, bytes]]:
        """The ids and encoded figures of the running containers of these bots; empty: of all.

        Each is from a sample of the last ``max_age_seconds``. A container that cannot be sampled in time is left out.
        """
        time = asyncio.get_running_loop().time
        since = time() - max_age_seconds
        containers = self._feed.running(bot_ids)
        newest = await self._newest(containers, since)
        old = [running for running, message in zip(containers, newest, strict=True) if message is None]
        # Unresponsive ones last, and waited for as if they were one group.
        old.sort(key=lambda running: running.unresponsive)
        responsive = sum(not running.unresponsive for running in old)
        ends = math.inf
        for first in range(0, len(old), CONTAINERS_AT_ONCE):
            if len(old) > CONTAINERS_AT_ONCE:
                await self._pace.turn()
            group = old[first : first + CONTAINERS_AT_ONCE]
            if first + len(group) > responsive:
                ends = min(ends, time() + PATIENCE_SECONDS)
            patience = min(ends - time(), PATIENCE_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await _all_done([self._taking(running, since) for running in group])
        newest = await self._newest(containers, since)
        return [
            (running.container_id, message)
            for running, message in zip(containers, newest, strict=True)
            if message is not None
        ]

    async def _newest(self, containers: Sequence[Running], since: float) -> list[bytes | None]:
        """The newest figures of each; ``None``: these are older than ``since``."""
        newest: list[bytes | None] = []
        for first in range(0, len(containers), _LOOKS_AT_ONCE):
            if len(containers) > _LOOKS_AT_ONCE:
                await self._pace.turn()
            newest += [_since(running, since) for running in containers[first : first + _LOOKS_AT_ONCE]]
        return newest

    def _taking(self, running: Running, since: float) -> asyncio.Task[None]:
        """The task that takes figures of the container that are no older than ``since``."""
        taking = self._takings.get(running)
        if taking is None or taking.time < since:
            taking = self._takings[running] = _Taking()
            # An empty context: the work serves all callers.
            taking.task = asyncio.get_running_loop().create_task(self._take(running, taking), context=Context())
            self._tasks.add(taking.task)
            taking.task.add_done_callback(self._tasks.discard)
        return taking.task

    async def _take(self, running: Running, taking: _Taking) -> None:
        try:
            before = await (await self._sampler.begin(running))
            for _ in range(_ATTEMPTS):
                if before is None:
                    return
                # The sample may be one that another caller began a moment before.
                taking.time = asyncio.get_running_loop().time() + _APART_SECONDS - FRESH_SECONDS
                await asyncio.sleep(_APART_SECONDS)
                started_ns = running.started_ns
                now = await (await self._sampler.begin(running))
                stats = None if now is None else stats_between(before, now, running.started_ns)
                # After a restart meanwhile, the sample may be of the former run.
                if stats is not None and started_ns == running.started_ns:
                    message = self._encode(running.bot_id, running.container_id, stats)
                    running.figures = Figures(message, taking.time)
                    return
                before = now
        finally:
            if self._takings.get(running) is taking:
                del self._takings[running]


def _since(running: Running, since: float) -> bytes | None:
    """The container's newest figures, if they are no older than ``since``."""
    figures = running.figures
    return figures.message if figures is not None and figures.time >= since else None


async def _all_done(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for tasks that many wait for: with asyncio.wait(), each waiter would cost each task a call at its end."""
    loop = asyncio.get_running_loop()
    # The last one mostly ends last.
    for task in reversed(tasks):
        if not task.done():
            waiter = loop.create_future()
            task.add_done_callback(partial(_wake, waiter))
            await waiter


def _wake(waiter: asyncio.Future[None], _: asyncio.Task[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
