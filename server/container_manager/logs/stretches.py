"""Finds what can be read of a damaged log.

An engine counts lines from the end of the log, damaged ones too, and can begin to read at any intact one. After a
damaged one it goes on anywhere. So each stretch of intact entries is found from its last line: where so many lines more
begin so many entries earlier, nothing is damaged.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import NamedTuple

from container_manager.backend_logs import ContainerLog, LogUnreadableError
from container_manager.logs.cursor import Position
from container_manager.logs.damage import Key, entries_behind, first_of_tail, key_of
from container_manager.logs.resumed import ResumedReadings
from container_manager.logs.seeking import AfterPosition
from container_manager.model import RawEntry

# Of a log with more damage, the oldest entries are left out.
_MOST_STRETCHES = 32
_MOST_LINES = 1 << 30
# Damage of so few lines is looked through line by line, so that no short stretch beside it is overlooked.
_SHORT_DAMAGE = 64
# So often a reading is repeated because the log has grown.
_LOOKS = 10
# From one look to the next, a log may grow by so many lines.
_MOST_NEW_LINES = 64


class Stretch(NamedTuple):
    """Entries that follow one another without damage between them."""

    tail: int
    """The first of them was the first one of so many last lines of the log."""
    length: int
    following: int | None = None
    """So many of them follow the position that was looked for; ``None``: that is not among them."""

    @property
    def is_last(self) -> bool:
        """They are the end of the log."""
        return self.tail == self.length


def last_of(found: list[Stretch], count: int) -> list[Stretch]:
    """The last ``count`` entries of these stretches, or the stretches from the position on if fewer follow that."""
    wanted: list[Stretch] = []
    for stretch in reversed(found):
        length = min(stretch.length, count)
        if length and stretch.following is not None and stretch.following <= count:
            wanted.insert(0, stretch)
        elif length:
            wanted.insert(0, Stretch(stretch.tail - stretch.length + length, length))
        count -= length
    return wanted


class _GrowsTooFastError(Exception):
    """Its lines cannot be counted from its end."""


class DamagedLog:
    """What there is of a log now, counted from its present end also when it grows."""

    def __init__(self, log: ContainerLog) -> None:
        self._log = log
        # The last line at the start; ``None``: it is damaged.
        self._last: Key | None = None
        self._written = 0
        self._counts = True
        # Written since the start. An engine that passes over damage may begin a reading with them.
        self._new: set[Key] = set()
        self._resumed = ResumedReadings(self._counted)

    async def stretches(self, position: Position | None, tail: int | None) -> list[Stretch]:
        """What can be read, oldest first; the first stretch has the position if any has it.

        ``tail``: so many of the last entries are wanted; ``None``: all.
        """
        for _ in range(_LOOKS):
            self._last, self._written = await self._line_at(1), 0
            self._new.clear()
            self._resumed.forget()
            with suppress(_GrowsTooFastError):
                return await self._stretches(position, tail)
        # What is behind all damage needs no counting.
        self._counts, self._written = False, 0
        stretch = await self._ending_before(0, None, position)
        return [stretch] if stretch.length else []

    async def read(self, stretch: Stretch) -> AsyncGenerator[list[RawEntry], None]:
        """The entries of a stretch."""
        with suppress(_GrowsTooFastError):
            async with aclosing(self._read(stretch)) as batches:
                async for batch in batches:
                    yield batch

    async def _read(self, stretch: Stretch) -> AsyncGenerator[list[RawEntry], None]:
        length = stretch.length
        with suppress(LogUnreadableError):
            async with aclosing(self._existing(stretch.tail)) as batches:
                async for batch in batches:
                    yield batch[:length]
                    length -= len(batch)
                    if length <= 0:
                        break

    async def begins_with(self, stretch: Stretch) -> bool:
        """Whether nothing that can be read is before a stretch."""
        return await self._first_of(None) == await self._first_of(stretch.tail)

    async def _stretches(self, position: Position | None, tail: int | None) -> list[Stretch]:
        found: list[Stretch] = []
        # The entries of these stretches: of a log of short lines, they take more memory than its file.
        known: Counter[Key] = Counter()
        lines = 0
        while len(found) < _MOST_STRETCHES and (behind := await self._next_end(lines, known)) is not None:
            last = await self._first_of(behind + 1)
            found.insert(0, stretch := await self._ending_before(behind, last, position))
            if stretch.following is not None or (tail is not None and sum(each.length for each in found) >= tail):
                break
            async for batch in self._read(stretch):
                known.update(map(key_of, batch))
            lines = stretch.tail
        return found

    async def _next_end(self, behind: int, known: Counter[Key]) -> int | None:
        """How many last lines are behind the next older stretch; ``None``: there is none."""
        for lines in range(behind, behind + _SHORT_DAMAGE):
            if await self._begins_earlier(lines + 1, known):
                return lines
        if not await self._begins_earlier(None, known):
            return None

        async def is_damaged(lines: int) -> bool:
            return not await self._begins_earlier(lines, known)

        return await _last_for_which(is_damaged, behind + _SHORT_DAMAGE)

    async def _begins_earlier(self, tail: int | None, known: Counter[Key]) -> bool:
        """Whether so many last lines begin with an entry that is in no known stretch."""
        first, equal = None, 0
        with suppress(LogUnreadableError):
            async with aclosing(self._existing(tail)) as batches:
                async for batch in batches:
                    for key in map(key_of, batch):
                        first = first or key
                        equal += 1
                        if key != first or key in self._new:
                            return False
                        # Equal pieces of a line may be on both sides of damage.
                        if equal > known[key]:
                            return True
        return False

    async def _ending_before(self, behind: int, last: Key | None, position: Position | None) -> Stretch:
        """The stretch with so many last lines behind it, or its part from shortly before the position on.

        ``last``: its last entry; ``None``: any.
        """
        found = [Stretch(behind, 0)]
        overlap, ends, near = 0, [] if last is None else [last], False

        async def is_intact(length: int) -> bool:
            nonlocal overlap, ends, near
            if found[-1].following is not None:
                return False
            # Read up to the first known entry that differs from those before it: from there on it is the same.
            wanted = length - found[-1].length + overlap if self._counts else length
            read = 0
            begin: list[Key] = []
            end: deque[Key] = deque(maxlen=len(ends))
            seeker = None if position is None else AfterPosition(position, whole=True)
            following = 0
            async for batch in self._read(Stretch(behind + length, wanted)):
                near = near or (position is not None and any(entry[0] == position.engine_ns for entry in batch))
                if seeker is not None:
                    following += len(batch if seeker.found else seeker.take(batch))
                for entry in batch:
                    if begin and begin[-1] != begin[0]:
                        break
                    begin.append(key_of(entry))
                read += len(batch)
                end.extend(map(key_of, batch[-2:]))
            if read != wanted or (self._counts and list(end) != ends):
                return False
            overlap, ends = len(begin), begin[-2:]
            stretch = Stretch(behind + length, length)
            if seeker is not None and wanted == length:
                following += len(seeker.end())
                stretch = stretch._replace(following=following if seeker.found else None)
            elif near and position is not None:
                seeker = AfterPosition(position, whole=True)
                stretch = stretch._replace(following=await entries_behind(self._read(stretch), seeker))
            found.append(stretch)
            return True

        await _last_for_which(is_intact, 0)
        return found[-1]

    async def _first_of(self, tail: int | None) -> Key | None:
        with suppress(LogUnreadableError):
            async with aclosing(self._existing(tail)) as batches:
                async for batch in batches:
                    return key_of(batch[0])
        return None

    def _existing(self, tail: int | None) -> AsyncGenerator[list[RawEntry], None]:
        """As :meth:`_counted`, with all entries up to damage if the lines can be counted."""
        return self._resumed.existing(tail) if self._counts else self._counted(tail)

    async def _counted(self, tail: int | None, until_ns: int | None = None) -> AsyncGenerator[list[RawEntry], None]:
        """The last ``tail`` lines of the log as it was at the start, and what was written since."""
        for _ in range(_LOOKS):
            lines = None if tail is None else tail + self._written
            async with aclosing(self._log.existing(lines, until_ns)) as batches:
                first, damage = None, None
                try:
                    first = await anext(batches, None)
                except LogUnreadableError as exc:
                    damage = exc
                # The count of lines was right before, so if it is right now, it was right meanwhile.
                if lines is None or not self._counts or not await self._has_grown():
                    if damage is not None:
                        raise damage
                    if first is not None:
                        yield first
                    async for batch in batches:
                        yield batch
                    return
        raise _GrowsTooFastError

    async def _has_grown(self) -> bool:
        """Whether more was written since the start than was known. Then it is known."""
        for lines in range(_MOST_NEW_LINES):
            if self._last == await self._line_at(self._written + lines + 1):
                self._written += lines
                if lines:
                    await self._learn_new()
                return lines > 0
        raise _GrowsTooFastError

    async def _learn_new(self) -> None:
        """Learn which entries were written since the start."""
        with suppress(LogUnreadableError):
            async with aclosing(self._log.existing(self._written)) as batches:
                async for batch in batches:
                    self._new.update(map(key_of, batch))

    async def _line_at(self, tail: int) -> Key | None:
        """The first of so many last lines; ``None``: that one is damaged."""
        with suppress(LogUnreadableError):
            entry = await first_of_tail(self._log, tail)
            return None if entry is None else key_of(entry)
        return None


async def _last_for_which(holds: Callable[[int], Awaitable[bool]], number: int) -> int:
    """The largest number for which ``holds`` is true: for ``number`` it is; once false, it stays so."""
    step = 1
    while step < _MOST_LINES and await holds(number + step):
        number, step = number + step, 2 * step
    while step > 1:
        step //= 2
        if await holds(number + step):
            number += step
    return number
