"""Taking turns by key: so many at once per bot, first come, first served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from container_manager.deadline import Deadline


class KeyedSemaphore:
    """Keyed semaphores on one event loop that exist only while somebody holds or awaits one."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._queues: dict[str, _Queue] = {}

    def __len__(self) -> int:
        """How many keys are held or awaited."""
        return len(self._queues)

    async def acquire(self, key: str, deadline: Deadline) -> Callable[[], None]:
        """Wait for a turn; what ends it again. Raises :class:`TimeoutError` at the deadline."""
        queue = self._queues.setdefault(key, _Queue(self._at_once))
        queue.users += 1
        try:
            async with asyncio.timeout(deadline.remaining()):
                await queue.acquire()
        except BaseException:
            self._leave(key, queue)
            raise

        def end() -> None:
            queue.release()
            self._leave(key, queue)

        return end

    def _leave(self, key: str, queue: _Queue) -> None:
        queue.users -= 1
        if not queue.users:
            del self._queues[key]


class _Queue(asyncio.Semaphore):
    """A semaphore that knows how many hold it or wait for it, so that the last one can drop it."""

    def __init__(self, at_once: int) -> None:
        super().__init__(at_once)
        self.users = 0
