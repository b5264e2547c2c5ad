"""An engine whose containers are sampled, on a clock that jumps to the next timer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import pytest

from container_manager.engine.timestamps import time_ns
from container_manager.errors import EngineTimeoutError
from container_manager.stats.figures import ContainerStats
from tests.unit.test_stats import document

T = TypeVar("T")
Figures = list[tuple[float, str]]

BEGIN = 1000.1
"""A tenth of a second after a tick."""
MIDNIGHT_NS = time_ns("2026-11-23T00:00:00Z") or 0
"""The time at 0 seconds on the engine's clock."""


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


class Engine:
    """Answers after ``seconds``, with containers that use 0.3 cores; ``scripts`` are the exceptions' delays, by id."""

    def __init__(self, seconds: float = 0.003) -> None:
        self.seconds = seconds
        self.beat: float | None = None
        """Answer at multiples of this many seconds, as old engines do."""
        self.hanging: set[str] = set()
        self.failure: Exception | None = None
        self.restarted: dict[str, float] = {}
        self.requests: list[tuple[float, str]] = []
        self.now = 0
        self.most = 0
        self.cancelled = 0

    async def get_json(self, path: str, params: dict[str, str], *, timeout_seconds: float) -> Any:
        container_id = path.split("/")[2]
        assert (f"/containers/{container_id}/stats", {"stream": "false", "one-shot": "true"}) == (path, params)
        time = asyncio.get_running_loop().time
        self.requests.append((time(), container_id))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if container_id in self.hanging:
                await asyncio.sleep(timeout_seconds)
                raise EngineTimeoutError("hangs")
            await asyncio.sleep(self.seconds if self.beat is None else self.beat - time() % self.beat)
            if self.failure is not None:
                raise self.failure
            return self.document(container_id, time())
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1

    def document(self, container_id: str, now: float) -> dict[str, Any]:
        """The stats document at ``now``, in seconds since midnight on the engine's clock."""
        since = now - self.restarted.get(container_id, 0)
        read = f"2026-11-23T{int(now) // 3600:02}:{int(now) // 60 % 60:02}:{now % 60:012.9f}Z"
        return document(read=read, cpu_stats={"cpu_usage": {"total_usage": int(since * 0.3e9)}, "online_cpus": 2})

    def started(self, container_id: str) -> int | None:
        """The container's last start on the engine's clock; ``None`` if that was long ago."""
        seconds = self.restarted.get(container_id)
        return None if seconds is None else MIDNIGHT_NS + int(seconds * 1e9)

    def count(self, container_id: str) -> int:
        return sum(container_id == asked for _, asked in self.requests)


async def collect(stream: AsyncGenerator[tuple[str, ContainerStats], None], seconds: float) -> Figures:
    """The figures that arrive within ``seconds``, and when, counted from the start."""
    time = asyncio.get_running_loop().time
    begin = time()
    figures = []
    with suppress(TimeoutError):
        async with aclosing(stream), asyncio.timeout(seconds):
            async for container_id, stats in stream:
                assert pytest.approx(30, abs=0.01) == stats.cpu_percent
                figures.append((round(time() - begin, 2), container_id))
    return figures
