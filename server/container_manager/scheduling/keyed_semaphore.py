"""A semaphore for each key, such as a bot id; first come, first served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from container_manager.deadline import Deadline


class KeyedSemaphore:
    """Semaphores by key, on one event loop. Each exists only while it is held or awaited."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._queues: dict[str, _Queue] = {}

    def __len__(self) -> int:
        """How many keys are held or awaited."""
        return len(self._queues)

    async def acquire(self, key: str, deadline: Deadline) -> Callable[[], None]:
        """Wait for a place. Returns the function that releases it. Raises :class:`TimeoutError` at the deadline."""
        queue = self._queues.setdefault(key, _Queue(self._at_once))
        queue.users += 1
        try:
            if queue.locked():
                async with asyncio.timeout(deadline.remaining()):
                    await queue.acquire()
            else:
                # At once, however little time is left.
                await queue.acquire()
        except BaseException:
            self._leave(key, queue)
            raise

        def release() -> None:
            queue.release()
            self._leave(key, queue)

        return release

    def _leave(self, key: str, queue: _Queue) -> None:
        queue.users -= 1
        if not queue.users:
            del self._queues[key]


class _Queue(asyncio.Semaphore):
    """A semaphore that counts its holders and waiters, so that the last one can delete it."""

    def __init__(self, at_once: int) -> None:
        super().__init__(at_once)
        self.users = 0
