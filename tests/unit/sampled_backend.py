"""A backend whose containers are sampled, on a clock that jumps to the next timer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import pytest

from container_manager.backends.sampling import SAMPLE_TIMEOUT_SECONDS
from container_manager.model import RawSample
from container_manager.stats.feed import StatsFeed
from container_manager.stats.figures import ContainerStats
from container_manager.stats.sampler import StatsSampler

T = TypeVar("T")
Figures = list[tuple[float, str]]

BEGIN = 1000.1
"""A tenth of a second after a tick."""


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose time jumps to the next timer when nothing is ready to run."""

    def __init__(self) -> None:
        super().__init__()
        self._now = BEGIN
        select = self._selector.select

        def jump(timeout: float | None) -> Any:
            events = select(0)
            assert events or timeout is not None, "nothing will ever happen"
            if not events:
                self._now += timeout or 0
            return events

        self._selector.select = jump

    def time(self) -> float:
        return self._now


def run(main: Coroutine[Any, Any, T]) -> T:
    """The result of the coroutine; asserts that nothing is in progress after it."""

    async def checked() -> T:
        result = await main
        await asyncio.sleep(10)
        assert {asyncio.current_task()} == asyncio.all_tasks()
        return result

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(checked())


class SampledBackend:
    """``sample`` answers after ``seconds``. Each container uses 0.3 cores; the clock shows the loop's time."""

    def __init__(self, seconds: float = 0.003) -> None:
        self.seconds = seconds
        self.beat: float | None = None
        """Answer at multiples of this many seconds, as old engines do."""
        self.hanging: set[str] = set()
        """These containers give no sample, and only after the time-out."""
        self._away = False
        self.restarted: dict[str, float] = {}
        self.requests: list[tuple[float, str]] = []
        self.now = 0
        self.most = 0
        self.cancelled = 0

    async def sample(self, container_id: str) -> RawSample | None:
        time = asyncio.get_running_loop().time
        self.requests.append((time(), container_id))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if container_id in self.hanging:
                await asyncio.sleep(SAMPLE_TIMEOUT_SECONDS)
                return None
            await asyncio.sleep(self.seconds if self.beat is None else self.beat - time() % self.beat)
            return None if self._away else self._counters(container_id, time())
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1

    def go_away(self) -> None:
        """From now on no container gives a sample."""
        self._away = True

    def come_back(self) -> None:
        self._away = False

    def started(self, container_id: str) -> int | None:
        """When the container last started, in nanoseconds; ``None`` if that was long ago."""
        seconds = self.restarted.get(container_id)
        return None if seconds is None else int(seconds * 1e9)

    def count(self, container_id: str) -> int:
        return sum(container_id == asked for _, asked in self.requests)

    def _counters(self, container_id: str, now: float) -> RawSample:
        cpu_seconds = 0.3 * (now - self.restarted.get(container_id, 0))
        return RawSample(int(now * 1e9), int(cpu_seconds * 1e9), 2, 1_000_000, 4_000_000, 10, 20, 3)


def encoded(_bot_id: str, container_id: str, stats: ContainerStats) -> bytes:
    """In place of the wire form; checks the percentage."""
    assert pytest.approx(30, abs=0.01) == stats.cpu_percent
    return f"{container_id} {stats.time_ns}".encode()


@asynccontextmanager
async def feeding(backend: SampledBackend, *running: str) -> AsyncIterator[StatsFeed]:
    """A feed; the bots of ``running`` run, each in a container of the same name."""
    sampler = StatsSampler(backend.sample)
    feed = StatsFeed(sampler, encoded)
    for name in running:
        feed.runs(name, name, backend.started(name))
    try:
        yield feed
    finally:
        await feed.close()
        await sampler.close()


async def collect(feed: StatsFeed, interval_seconds: float, seconds: float, *bots: str) -> Figures:
    """The figures that arrive within ``seconds``, and when, counted from the start. No ``bots``: of all."""
    time = asyncio.get_running_loop().time
    begin = time()
    figures = []
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), feed.watch(frozenset(bots), interval_seconds) as watcher:
            while True:
                container_id = (await watcher.next()).decode().split()[0]
                figures.append((round(time() - begin, 2), container_id))
    return figures


def alone(backend: SampledBackend, interval_seconds: float, seconds: float, *running: str) -> Figures:
    """What one watcher of these receives."""

    async def main() -> Figures:
        async with feeding(backend, *running) as feed:
            return await collect(feed, interval_seconds, seconds)

    return run(main())
