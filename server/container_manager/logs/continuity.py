"""Finds out whether a backend passed over entries while it sent new ones, as an engine does at damage in its file.

The engine counts lines: if nothing is missing, so many last lines as entries came begin with the first of these.
"""

from __future__ import annotations

from contextlib import suppress

from container_manager.backend_logs import ContainerLog, LogUnreadableError
from container_manager.logs.cursor import Position, position_in
from container_manager.logs.damage import LOOKS, first_of_tail
from container_manager.model import RawEntry

# While it is looked at, a log may grow by so many lines.
_MOST_NEW_LINES = 16


class Continuity:
    """Checks the entries of one request that follows a log."""

    def __init__(self, log: ContainerLog, position: Position | None) -> None:
        """``position``: of the entry before the first one to check; ``None``: the log was empty."""
        self._log = log
        # The last entry that was checked, and how many have come since; ``None``: it has not come itself.
        self._checked = position
        self._count: int | None = None

    def see(self, entries: list[RawEntry]) -> None:
        """The next entries, which may begin before the position."""
        if self._count is not None:
            self._count += len(entries)
            return
        self._checked = checked = self._checked or position_in(entries[0], 0, 0, leads=True)
        self._count = next((behind for behind, entry in enumerate(reversed(entries)) if _is_at(entry, checked)), None)

    async def is_broken(self, last: Position | None) -> bool:
        """Whether entries are missing among those that came since the previous check; false if nobody can say.

        ``last``: the position of the last one. Costs a request, and none if nothing came.
        """
        if last is None or not self._count:
            return False
        broken = not await self._has_all(0) and await self._misses_some(last)
        self._checked, self._count = last, 0
        return broken

    async def _has_all(self, written: int) -> bool:
        """Whether nothing is missing if so many entries were written since."""
        return _is_at(await self._first_of((self._count or 0) + 1 + written), self._checked)

    async def _misses_some(self, last: Position) -> bool:
        for _ in range(LOOKS):
            written = await self._written_after(last)
            if written is None or await self._has_all(written):
                return False
            # If the engine has dropped what was checked, the log is not longer than that.
            is_dropped = await self._first_of(None) == await self._first_of((self._count or 0) + 1 + written)
            # If the log has grown between these looks, they say nothing.
            if written == await self._written_after(last):
                return not is_dropped
        return False

    async def _written_after(self, last: Position) -> int | None:
        """How many lines are behind that entry, found without reading what is before it; ``None``: many."""
        for lines in range(_MOST_NEW_LINES):
            if _is_at(await self._first_of(lines + 1), last):
                return lines
        return None

    async def _first_of(self, tail: int | None) -> RawEntry | None:
        with suppress(LogUnreadableError):
            return await first_of_tail(self._log, tail)
        return None


def _is_at(entry: RawEntry | None, position: Position | None) -> bool:
    if entry is None or position is None:
        return False
    time_ns, source, line, _ = entry
    return time_ns == position.engine_ns and position.is_of(source, line)
