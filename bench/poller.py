"""Follows a swarm and does nothing else, so that what that costs can be measured.

As a program: ``python -m bench.poller MANAGER SECONDS [view]`` follows the manager at ``unix://…`` with the backend's
source alone, or with the live view, and prints what that takes once everything is known: CPU seconds, the polls and the
notices in that time, and the longest step of the event loop, in CPU seconds too.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from container_manager.backends.swarm.overdue import Overdue
from container_manager.backends.swarm.source import SwarmSource
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.rpc.manager_codec import status_to_proto
from container_manager.view.keeper import ViewKeeper

_SETTLED_SECONDS = 3.0


async def measure(manager: str, seconds: float, *, view: bool) -> dict[str, Any]:
    """Follow the manager for so long, once everything is known."""
    counts: Counter[str] = Counter()
    engine = AsyncEngineClient(
        manager, timeout_seconds=10, observer=lambda operation, *_: counts.update([operation, "requests"])
    )
    follow = _view if view else _source
    async with follow(SwarmSource(engine, Overdue(_attend)), counts):
        await asyncio.sleep(min(_SETTLED_SECONDS, seconds))
        gc.collect()
        counts.clear()
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        figures = {
            "cpu_seconds": time.process_time() - cpu,
            "seconds": time.perf_counter() - began,
            "polls": counts["list_nodes"],
            "requests": counts["requests"],
            "notices": counts["notices"],
        }
        # Afterwards: this has a cost of its own.
        figures["longest_step_seconds"] = await _longest_step(seconds / 2)
    await engine.close()
    return figures


async def _attend(_service: dict[str, Any]) -> None:
    """Nothing is ever due here."""


@asynccontextmanager
async def _source(source: SwarmSource, counts: Counter[str]) -> AsyncIterator[None]:
    async def consume() -> None:
        async for _ in notices:
            counts["notices"] += 1

    async with source.subscribe() as notices, asyncio.TaskGroup() as group:
        task = group.create_task(consume())
        yield
        task.cancel()


@asynccontextmanager
async def _view(source: SwarmSource, _counts: Counter[str]) -> AsyncIterator[None]:
    keeper = ViewKeeper(source, lambda status: status_to_proto(status).SerializeToString())
    keeper.start()
    try:
        await keeper.in_sync()
        yield
    finally:
        await keeper.close()


async def _longest_step(seconds: float) -> float:
    """The most CPU time between two turns of a task that always has something to do."""
    longest, ends = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < ends:
        began = time.thread_time()
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - began)
    return longest


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(sys.argv[1], float(sys.argv[2]), view=sys.argv[3:] == ["view"]))))
