"""Samples containers' resource use: at most one sample of a container at a time, shared by all that need it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any

from container_manager.model import RawSample
from container_manager.pace import Pace
from container_manager.stats.running import Running

REQUESTS_AT_ONCE = 128
"""More would overload an engine. With fewer, more containers would wait for an old engine's next sampling round."""
UNRESPONSIVE_AT_ONCE = 32
"""Requests for unresponsive containers, beside :data:`REQUESTS_AT_ONCE`. Most of them wait until they time out."""
SAMPLES_PER_SECOND = 1_000
"""A sample takes about 0.2 ms of the event loop."""
FRESH_SECONDS = 0.25
"""How long a sample is shared, from its beginning. Shorter than the shortest interval."""

_SAMPLES_AT_ONCE = 10
# A sample that fails later than this makes its container unresponsive. Others fail at once, as of one that has stopped.
_LONG_SECONDS = 1.0

_log = logging.getLogger(__name__)


class StatsSampler:
    """Takes samples on request, in the order of the requests, and never more than :data:`SAMPLES_PER_SECOND`.

    Unresponsive containers have places of their own, so that they delay only each other.
    """

    def __init__(self, take: Callable[[str], Awaitable[RawSample | None]]) -> None:
        """``take`` is a backend's ``sample``."""
        self._take = take
        self._slots = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._unresponsive_slots = asyncio.Semaphore(UNRESPONSIVE_AT_ONCE)
        self._pace = Pace(SAMPLES_PER_SECOND, _SAMPLES_AT_ONCE)
        # Samples that may be shared: running or recent ones.
        self._samples: dict[str, asyncio.Task[RawSample | None]] = {}

    async def begin(self, running: Running) -> asyncio.Future[RawSample | None]:
        """Begin a sample of the container, or share a recent one; waits for a turn, but not if it is unresponsive.

        The future's result is ``None`` if the container is not running or gives no sample in time. Each caller has its
        own future and may cancel it without affecting others.
        """
        container_id = running.container_id
        if container_id not in self._samples and running.unresponsive:
            self._share(container_id, self._taken_in_turn(running))
        elif container_id not in self._samples:
            await self._slots.acquire()
            try:
                await self._pace.turn()
            except asyncio.CancelledError:
                self._slots.release()
                raise
            if container_id in self._samples:
                self._slots.release()
            else:
                task = self._share(container_id, self._taken(running))
                task.add_done_callback(lambda _: self._slots.release())
        return asyncio.shield(self._samples[container_id])

    async def close(self) -> None:
        """Cancel running samples."""
        tasks = list(self._samples.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _share(
        self, container_id: str, sample: Coroutine[Any, Any, RawSample | None]
    ) -> asyncio.Task[RawSample | None]:
        loop = asyncio.get_running_loop()
        stale_from = loop.time() + FRESH_SECONDS
        # An empty context: the sample is shared and belongs to no single call.
        task = self._samples[container_id] = loop.create_task(sample, context=Context())
        task.add_done_callback(lambda _: loop.call_at(stale_from, self._samples.pop, container_id))
        return task

    async def _taken_in_turn(self, running: Running) -> RawSample | None:
        async with self._unresponsive_slots:
            await self._pace.turn()
            return await self._taken(running)

    async def _taken(self, running: Running) -> RawSample | None:
        time = asyncio.get_running_loop().time
        began, sample = time(), None
        try:
            sample = await self._take(running.container_id)
        except Exception:  # noqa: BLE001 - the next sample may succeed
            _log.exception("unexpected error: container %s could not be sampled", running.container_id[:12])
        running.unresponsive = sample is None and time() > began + _LONG_SECONDS
        return sample
