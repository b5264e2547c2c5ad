"""Samples containers' resource use: at most one sample of a container at a time, shared by all that need it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context

from container_manager.model import RawSample
from container_manager.pace import Pace

REQUESTS_AT_ONCE = 128
"""More would overload an engine. With fewer, more containers would wait for an old engine's next sampling round."""
SAMPLES_PER_SECOND = 1_000
"""A sample takes about 0.2 ms of the event loop."""
FRESH_SECONDS = 0.25
"""How long a sample is shared, from its beginning. Shorter than the shortest interval."""

_SAMPLES_AT_ONCE = 10

_log = logging.getLogger(__name__)


class StatsSampler:
    """Takes samples on request, in the order of the requests, and never more than :data:`SAMPLES_PER_SECOND`."""

    def __init__(self, take: Callable[[str], Awaitable[RawSample | None]]) -> None:
        """``take`` is a backend's ``sample``."""
        self._take = take
        self._slots = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._pace = Pace(SAMPLES_PER_SECOND, _SAMPLES_AT_ONCE)
        # Samples that may be shared: running or recent ones.
        self._samples: dict[str, asyncio.Task[RawSample | None]] = {}

    async def begin(self, container_id: str) -> asyncio.Future[RawSample | None]:
        """Begin a sample of the container, or share a recent one; waits for a turn.

        The future's result is ``None`` if the container is not running or gives no sample in time. Each caller has its
        own future and may cancel it without affecting others.
        """
        if container_id not in self._samples:
            await self._slots.acquire()
            try:
                await self._pace.turn()
            except asyncio.CancelledError:
                self._slots.release()
                raise
            if container_id in self._samples:
                self._slots.release()
            else:
                self._samples[container_id] = self._begun(container_id)
        return asyncio.shield(self._samples[container_id])

    async def close(self) -> None:
        """Cancel running samples."""
        tasks = list(self._samples.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begun(self, container_id: str) -> asyncio.Task[RawSample | None]:
        loop = asyncio.get_running_loop()
        stale_from = loop.time() + FRESH_SECONDS
        # An empty context: the sample is shared and belongs to no single call.
        task = loop.create_task(self._taken(container_id), context=Context())

        def done(_: asyncio.Task[RawSample | None]) -> None:
            self._slots.release()
            loop.call_at(stale_from, self._samples.pop, container_id)

        task.add_done_callback(done)
        return task

    async def _taken(self, container_id: str) -> RawSample | None:
        try:
            return await self._take(container_id)
        except Exception:  # noqa: BLE001 - the next sample may succeed
            _log.exception("unexpected error: container %s could not be sampled", container_id[:12])
            return None
