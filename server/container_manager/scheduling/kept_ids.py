"""The bot ids that open streams keep: each of them costs memory for as long as its stream is open."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from contextlib import contextmanager

from container_manager.errors import CapacityExceededError

IDS_PER_WATCHER = 100
"""On average; one stream may name many more while others name fewer."""


class KeptIds:
    """Counts the ids that the streams of all callers name."""

    def __init__(self, limit: int) -> None:
        self.count = 0
        self._limit = limit

    @contextmanager
    def keep(self, bot_ids: Sized) -> Iterator[None]:
        """Keep a stream's ids inside the block. Raises :class:`CapacityExceededError` when they are too many."""
        count = len(bot_ids)
        if count and self.count + count > self._limit:
            raise CapacityExceededError(
                f"open streams name {self.count} bot ids, and this one {count} more; the server keeps at most "
                f"{self._limit}: name fewer bots, or none, for all of them"
            )
        self.count += count
        try:
            yield
        finally:
            self.count -= count
