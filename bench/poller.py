"""Follows a swarm and does nothing else, so that what that costs can be measured."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from typing import Any

from container_manager.backends.swarm.overdue import Overdue
from container_manager.backends.swarm.source import SwarmSource
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.rpc.manager_codec import status_to_proto
from container_manager.view.keeper import ViewKeeper

_SETTLED_SECONDS = 3.0


class Poller:
    """Keeps a live view of a swarm, with the backend's source, in a process of its own."""

    def __init__(self, manager: str) -> None:
        """``manager``: its API, ``unix://…``."""
        self._manager = manager

    def measure(self, seconds: float) -> dict[str, float]:
        """Follow the swarm for so long, once everything is known.

        What that takes: CPU seconds, the polls in that time, and the longest step of the event loop, in CPU seconds.
        """
        return asyncio.run(self._measure(seconds))

    async def _measure(self, seconds: float) -> dict[str, float]:
        counts: Counter[str] = Counter()
        engine = AsyncEngineClient(
            self._manager, timeout_seconds=10, observer=lambda operation, *_: counts.update([operation])
        )
        source = SwarmSource(engine, Overdue(_attend))
        keeper = ViewKeeper(source, lambda status: status_to_proto(status).SerializeToString())
        keeper.start()
        try:
            await keeper.in_sync()
            await asyncio.sleep(min(_SETTLED_SECONDS, seconds))
            gc.collect()
            counts.clear()
            began, cpu = time.perf_counter(), time.process_time()
            await asyncio.sleep(seconds)
            figures = {
                "cpu_seconds": time.process_time() - cpu,
                "seconds": time.perf_counter() - began,
                "polls": counts["list_nodes"],
            }
            # Afterwards: this has a cost of its own.
            return figures | {"longest_step_seconds": await _longest_step(seconds / 2)}
        finally:
            await keeper.close()
            await engine.close()


async def _attend(_service: dict[str, Any]) -> None:
    """Nothing is ever due here."""


async def _longest_step(seconds: float) -> float:
    """The most CPU time between two turns of a task that always has something to do."""
    longest, ends = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < ends:
        began = time.thread_time()
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - began)
    return longest
