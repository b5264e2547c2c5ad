"""Completes readings that an engine has broken off at damage.

An engine that reports damage may drop the entries that it was about to send before it, any number of them (Docker 26:
moby ``daemon/logs.go`` takes an error from the reader before the entries that wait). A reading that ends before damage,
at an entry that is too late, loses nothing. So what follows the last entry that came is asked for again: up to the time
of a later entry, where the times allow it, and else one or a few entries at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress

from container_manager.backend_logs import Batches, LogUnreadableError
from container_manager.model import RawEntry

# So often a reading is repeated that brings nothing but the report. Each time, an engine that has an intact entry there
# sends it more often than not.
_TRIES = 20
# So many bytes of what was read slowly are remembered, as it may be wanted again.
_MOST_REMEMBERED_BYTES = 1 << 20
# What an entry takes beside its line.
_ENTRY_BYTES = 160
_DAMAGED = "the engine's file of the container's log is damaged"


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
            read_slowly: list[tuple[int, Sequence[RawEntry | None]]] = []
            try:
                async with aclosing(self._remembered(left) if is_known else self._read(left, until_ns)) as batches:
                    async for batch in batches:
                        if left != tail and until_ns is None and not is_known:
                            read_slowly.append((left - read, batch))
                        yield batch
                        first, last, read = first or batch[0], batch[-1], read + len(batch)
            except LogUnreadableError as exc:
                report = exc
            if report is None and until_ns is None and not is_known:
                return
            tries = _TRIES if read else tries - (until_ns is None)
            left -= read
            if read and not is_known and not await self._is_counted(tail, left, read, first, last):
                tries, read_slowly = 0, []
            self._remember_all(read_slowly if read or tries else [(left, [None])])
            if report is not None and (not tries or left <= 0 or self._is_damaged(left)):
                raise report
            if read and not tries:
                raise LogUnreadableError(_DAMAGED)
            is_fast = until_ns is not None and report is None and read
            step = 2 * step if is_fast else max(step // 2, 1)
            until_ns = await self._before_later(left - step, last) if read else None

    async def _is_counted(self, tail: int, left: int, read: int, first: RawEntry | None, last: RawEntry | None) -> bool:
        """Whether so many lines are left behind what was read, as its entries say."""
        if left + read == tail and await self._line(tail - 1) in (None, first):
            # The damage follows, or the log has fewer lines.
            return False
        # Else the engine has passed over other damage without a report.
        return left <= 0 or await self._joins(left, last)

    async def _joins(self, left: int, last: RawEntry | None) -> bool:
        """Whether ``last`` is the line before the last ``left`` lines."""
        following = await self._line(left)
        if following is None:
            return await self._line(left + 1) == last
        for _ in range(4 * _TRIES):
            got: list[RawEntry] = []
            with suppress(LogUnreadableError):
                async with aclosing(self._read(left + 1, None)) as batches:
                    async for batch in batches:
                        got += batch[:2]
                        if len(got) > 1:
                            break
            if len(got) > 1:
                return got[:2] == [last, following]
        return False

    async def _before_later(self, lines: int, last: RawEntry | None) -> int | None:
        """A time before that of the first of so many last lines, if that is later than the last entry."""
        entry = await self._line(lines)
        if entry is None or last is None:
            return None
        return entry[0] - 1 if entry[0] > last[0] else None

    async def _remembered(self, lines: int) -> Batches:
        while lines in self._known:
            if (entry := self._known[lines]) is None:
                raise LogUnreadableError(_DAMAGED)
            yield [entry]
            lines -= 1

    def _remember_all(self, parts: Sequence[tuple[int, Sequence[RawEntry | None]]]) -> None:
        """Each with how many last lines begin with its first entry."""
        for lines, entries in parts:
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
