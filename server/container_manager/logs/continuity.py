"""Finds out whether a backend passed over entries while it sent new ones, as an engine does at damage in its file.

The engine counts lines: if nothing is missing, so many last lines as entries came begin with the first of these.
"""

from __future__ import annotations

from container_manager.backend_logs import ContainerLog
from container_manager.logs.cursor import Position, position_in
from container_manager.logs.damage import LOOKS, first_of_tail, written_after
from container_manager.model import RawEntry


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
        if last is None or self._checked is None or not self._count:
            return False
        broken = not await self._has_all(self._checked, self._count) and await self._misses_some(
            self._checked, self._count, last
        )
        self._checked, self._count = last, 0
        return broken

    async def _has_all(self, checked: Position, count: int) -> bool:
        """Whether so many last lines follow that entry."""
        first = await first_of_tail(self._log, count + 1)
        return first is not None and _is_at(first, checked)

    async def _misses_some(self, checked: Position, count: int, last: Position) -> bool:
        for _ in range(LOOKS):
            written = await written_after(self._log, last)
            if written is None or await self._has_all(checked, count + written):
                return False
            # If the log has grown between these two looks, they say nothing.
            if written == await written_after(self._log, last):
                # The engine may have dropped the first ones since.
                return await written_after(self._log, checked) is not None
        return False


def _is_at(entry: RawEntry, position: Position) -> bool:
    time_ns, source, line, _ = entry
    return time_ns == position.engine_ns and position.is_of(source, line)
