"""Completes readings that an engine has broken off at damage.

An engine that reports damage may drop the entries that it was about to send before it, any number of them (Docker 26:
moby ``daemon/logs.go`` takes an error from the reader before the entries that wait). A reading that ends before damage,
at an entry that is too late, loses nothing. So what follows the last entry that came is asked for again: up to the time
of a later entry, where the times allow it, and else one or a few entries at a time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress

from container_manager.backend_logs import LogUnreadableError
from container_manager.model import RawEntry

# So often a reading is repeated that brings nothing but the report. Each time, an engine that has an intact entry there
# sends it more often than not.
_TRIES = 12
# So many bytes of what was read slowly are remembered, as it may be wanted again.
_MOST_REMEMBERED_BYTES = 1 << 20
# So many bytes of memory an entry takes beside its line.
_ENTRY_BYTES = 160

Batches = AsyncGenerator[list[RawEntry], None]


class ResumedReadings:
    """The readings of a log whose lines are counted from an end that stays."""

    def __init__(self, read: Callable[[int | None, int | None], Batches]) -> None:
        """``read``: reads so many last lines, up to a time if the backend can do that, until damage."""
        self._read = read
        # By the number of last lines that begin with them; ``None``: a damaged one.
        self._known: dict[int, RawEntry | None] = {}
        self._room = _MOST_REMEMBERED_BYTES

    def forget(self) -> None:
        """The log is counted from another end now."""
        self._known.clear()
        self._room = _MOST_REMEMBERED_BYTES

    def existing(self, tail: int | None) -> Batches:
        """The last ``tail`` lines, up to damage. Raises :class:`LogUnreadableError` there if the engine reports it."""
        return self._from_start() if tail is None else self._last(tail)

    async def _from_start(self) -> Batches:
        """What comes of all lines, if any does. How many they are is not known, so it is not resumed."""
        is_empty = True
        for tries in reversed(range(_TRIES)):
            try:
                async with aclosing(self._read(None, None)) as batches:
                    async for batch in batches:
                        is_empty = False
                        yield batch
            except LogUnreadableError:
                if not (is_empty and tries):
                    raise
            else:
                return

    async def _last(self, tail: int) -> Batches:
        left, step, tries = tail, 1, _TRIES
        first, last, until_ns = None, None, None
        while left > 0:
            is_known = left in self._known
            read, report = 0, None
            try:
                async with aclosing(self._remembered(left) if is_known else self._read(left, until_ns)) as batches:
                    async for batch in batches:
                        if left != tail and until_ns is None and not is_known:
                            self._remember(left - read, batch)
                        yield batch
                        first, last, read = first or batch[0], batch[-1], read + len(batch)
            except LogUnreadableError as exc:
                report = exc
            if report is None and until_ns is None and not is_known:
                return
            tries = _TRIES if read else tries - (until_ns is None)
            if left == tail and read and not is_known and await self._line(left - 1) in (None, first):
                # The damage follows, or the log has fewer lines, so that none can be counted.
                tries = 0
            left -= read
            if not read and not tries:
                self._remember(left, [None])
            if report is not None and (not tries or left <= 0 or self._is_damaged(left)):
                raise report
            is_fast = until_ns is not None and report is None and read
            step = 2 * step if is_fast else max(step // 2, 1)
            until_ns = await self._before_later(left - step, last) if read else None

    async def _before_later(self, lines: int, last: RawEntry | None) -> int | None:
        """A time before that of the first of so many last lines, if that is later than the last entry."""
        entry = await self._line(lines)
        if entry is None or last is None:
            return None
        self._remember(lines, [entry])
        return entry[0] - 1 if entry[0] > last[0] else None

    async def _remembered(self, lines: int) -> Batches:
        while lines in self._known:
            if (entry := self._known[lines]) is None:
                raise LogUnreadableError("the engine's file of the container's log is damaged")
            yield [entry]
            lines -= 1

    def _remember(self, lines: int, entries: Sequence[RawEntry | None]) -> None:
        """``lines``: so many begin with the first of these."""
        for number, entry in zip(range(lines, 0, -1), entries, strict=False):
            size = _ENTRY_BYTES + (0 if entry is None else len(entry[2]))
            if number not in self._known and size <= self._room:
                self._known[number] = entry
                self._room -= size

    def _is_damaged(self, lines: int) -> bool:
        return lines in self._known and self._known[lines] is None

    async def _line(self, lines: int) -> RawEntry | None:
        """The first of so many last lines; ``None``: it is damaged."""
        with suppress(LogUnreadableError):
            async with aclosing(self.existing(lines)) as batches:
                async for batch in batches:
                    return batch[0]
        return None
