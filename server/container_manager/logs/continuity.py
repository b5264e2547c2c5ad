"""Finds out whether a backend passed over entries while it sent new ones, as an engine does at damage in its file.

The engine counts lines: if nothing is missing, so many last lines as entries came begin with the first of these.
"""

from __future__ import annotations

from contextlib import aclosing, suppress

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

        ``last``: the position of the last one. Costs no request if nothing came, and one if nothing is missing; up to 8
        if the log grows meanwhile, and up to 20 near damage.
        """
        if last is None or not self._count:
            return False
        broken = not _is_at(await self._first_of(self._count + 1), self._checked) and await self._misses_some(last)
        self._checked, self._count = last, 0
        return broken

    async def _misses_some(self, last: Position) -> bool:
        written = await self._written_after(last)
        for _ in range(LOOKS):
            if written is None:
                return False
            first = await self._first_of((self._count or 0) + 1 + written)
            if _is_at(first, self._checked):
                return False
            # If the engine has dropped what was checked, the log is not longer than that.
            is_dropped = first == await self._first_of(None)
            # If the log has grown between these looks, they say nothing.
            before, written = written, await self._written_after(last)
            if before == written:
                return not is_dropped
        return False

    async def _written_after(self, last: Position) -> int | None:
        """How many lines are behind that entry; ``None``: many, or there are several like it, as pieces of a line."""
        few, many = 0, _MOST_NEW_LINES
        lines = many
        while lines > few:
            entries = await self._last_entries(lines)
            found = [at for at, entry in enumerate(entries) if _is_at(entry, last)]
            if found:
                return len(entries) - 1 - found[0] if len(found) == 1 else None
            # A reading that begins before damage may end there. Look for the entry in fewer lines.
            if len(entries) < lines:
                many = lines
            else:
                few = lines
            lines = (few + many) // 2
        return None

    async def _last_entries(self, lines: int) -> list[RawEntry]:
        """Those of so many last lines that can be read."""
        entries: list[RawEntry] = []
        with suppress(LogUnreadableError):
            async with aclosing(self._log.existing(lines)) as batches:
                async for batch in batches:
                    entries += batch
        return entries

    async def _first_of(self, tail: int | None) -> RawEntry | None:
        with suppress(LogUnreadableError):
            return await first_of_tail(self._log, tail)
        return None


def _is_at(entry: RawEntry | None, position: Position | None) -> bool:
    if entry is None or position is None:
        return False
    time_ns, source, line, _ = entry
    return time_ns == position.engine_ns and position.is_of(source, line)
