"""Finds out whether a backend left out entries that it could not read.

An engine may report a damaged file, skip the rest of the file, or skip to a place where it can read again, and end the
reading as if it were complete (Docker: moby ``daemon/logger/loggerutils/logfile.go``, ``jsonfilelog/read.go``). But it
counts lines, not entries, to find the last ones of a log. So a complete reading of N entries is the same as the last N.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from zlib import crc32

from container_manager.backend_logs import ContainerLog, LogUnreadableError
from container_manager.logs.cursor import Position, position_in, rest_of
from container_manager.logs.seeking import AfterPosition
from container_manager.model import RawEntry

WINDOWS = (100, 500, 2_500, 12_500, 62_500)
"""A place in a log is looked for in so many of its last entries, and then in all of them.

Usually the first entry of too few shows that more are needed.
"""

# In a log that is not empty, one of these probably begins at an entry, though its first and last lines are damaged.
_SOME_TAILS = (1, 2, 3, 5, 9, 17, 33, 65, None)

LOOKS = 2
"""So often a growing log is looked at again."""

Key = tuple[int, int]


class Completeness:
    """Checks one reading of existing entries."""

    def __init__(self, log: ContainerLog, tail: int | None) -> None:
        self._log = log
        self._tail = tail
        self._first: Key | None = None
        self._count = 0
        self._last: RawEntry | None = None
        # So many of the last entries have the time of the last one; what a cursor has of the time before.
        self._alike = self._before = 0

    def see(self, entries: list[RawEntry]) -> None:
        """The next entries of the reading."""
        if self._first is None:
            self._first = key_of(entries[0])
        self._count += len(entries)
        last_ns = entries[-1][0]
        alike = next((at for at, entry in enumerate(reversed(entries)) if entry[0] != last_ns), len(entries))
        if alike < len(entries):
            self._before = rest_of(entries[-1 - alike][0])
        elif self._last is not None and self._last[0] == last_ns:
            alike += self._alike
        elif self._last is not None:
            self._before = rest_of(self._last[0])
        self._last, self._alike = entries[-1], alike

    async def check(self) -> None:
        """Raise :class:`LogUnreadableError` if the reading, which has ended, left out entries."""
        # Fewer than the tail: it was the whole log.
        if self._count != self._tail and not await self._is_complete():
            raise LogUnreadableError("the engine's file of the container's log is damaged: entries are missing")

    async def _is_complete(self) -> bool:
        log = self._log
        if self._last is None:
            # If another reading begins with an entry, damage hid that from this one, or it was written since.
            for tail in _SOME_TAILS:
                if await first_of_tail(log, tail) is not None:
                    return await first_of_tail(log, self._tail) is not None
            return True
        last = position_in(self._last, self._alike - 1, self._before, leads=self._alike == self._count)
        # Compare the first entry of the last ones with the first one that was read. The log may have grown since.
        if await self._begins(self._count):
            return True
        for _ in range(LOOKS):
            later = await _written_after(log, last)
            if later is not None and await self._begins(self._count + later):
                return True
            # If it has grown between these two looks, they say nothing.
            # An engine that breaks a reading off may find the last entry at one look only: it has not grown either.
            before, later = later, await _written_after(log, last)
            if before is None or later is None or before == later:
                break
        else:
            # One answer has its lines and its entries from one moment. It begins later than the reading by what is
            # written just now, so damage right at the start of the log may stay unnoticed.
            if await self._is_intact(self._count + (later or 0)):
                return True
        # The engine may have dropped the oldest entries since, so that nobody can say.
        return await self._first_of(None if self._tail is None else self._tail + (later or 0)) != self._first

    async def _begins(self, tail: int) -> bool:
        """Whether the reading began with the first of so many last lines, and there is no line before that."""
        return await self._first_of(tail) == self._first == await self._first_of(tail + 1)

    async def _is_intact(self, tail: int) -> bool:
        """Whether so many last lines are as many entries."""
        count = 0
        async with aclosing(self._log.existing(tail)) as batches:
            async for batch in batches:
                count += len(batch)
        return count == tail

    async def _first_of(self, tail: int | None) -> Key | None:
        entry = await first_of_tail(self._log, tail)
        return None if entry is None else key_of(entry)


def key_of(entry: RawEntry) -> Key:
    """Identifies an entry among those around it, which may be long."""
    return (entry[0], crc32(entry[2]))


async def _written_after(log: ContainerLog, last: Position) -> int | None:
    """How many entries can be read after that one; ``None`` if it cannot be read itself."""
    for tail in (*WINDOWS, None):
        written = await entries_behind(log.existing(tail), AfterPosition(last, whole=tail is None))
        if written is not None:
            return written
    return None


async def entries_behind(readable: AsyncGenerator[list[RawEntry], None], seeker: AfterPosition) -> int | None:
    """How many entries of a reading are behind the seeker's position; ``None`` if that is not among them.

    An engine that reports damage ends the count there, as one that does not.
    """
    behind = 0
    with suppress(LogUnreadableError):
        async with aclosing(readable) as batches:
            async for batch in batches:
                behind += len(batch if seeker.found else seeker.take(batch))
                if seeker.hopeless:
                    break
    behind += len(seeker.end())
    return behind if seeker.found else None


async def first_of_tail(log: ContainerLog, count: int | None) -> RawEntry | None:
    """The first of the last ``count`` entries, or of all; ``None`` if there is none."""
    async with aclosing(log.existing(count)) as batches:
        async for batch in batches:
            return batch[0]
    return None
