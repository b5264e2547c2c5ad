"""The turn of one change of a bot: no other change of this service overlaps it, nor an adoption of the bot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from container_manager.bot_locks import BotLocks
from container_manager.deadline import Deadline
from container_manager.scheduling.keyed_semaphore import KeyedSemaphore

# An adoption has the lock for the few milliseconds of a look and a rename.
_POLL_SECONDS = 0.02


class BotTurns:
    """The turns of all bots, each first come, first served."""

    def __init__(self, locks: BotLocks | None) -> None:
        """``locks``: shared with other processes; ``None``: there are none."""
        self._locks = locks
        self._changing = KeyedSemaphore(1)

    def __len__(self) -> int:
        """How many bots have a change that has its turn or waits for it."""
        return len(self._changing)

    async def acquire(self, bot_id: str, deadline: Deadline) -> Callable[[], None]:
        """Wait for the bot's turn. Returns the function that ends it. Raises :class:`TimeoutError` at the deadline."""
        end = await self._changing.acquire(bot_id, deadline)
        locks = self._locks
        if locks is None:
            return end
        try:
            async with asyncio.timeout(deadline.remaining()):
                while not locks.share(bot_id):  # noqa: ASYNC110 - another process has it
                    await asyncio.sleep(_POLL_SECONDS)
        except BaseException:
            end()
            raise

        def release() -> None:
            try:
                locks.release(bot_id)
            finally:
                end()

        return release

    def close(self) -> None:
        """Release the locks. No change may be under way."""
        if self._locks is not None:
            self._locks.close()
