"""Reads the existing entries of a container's log, again and again, each time from where it ended before."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing, suppress
from copy import deepcopy
from dataclasses import dataclass

from container_manager.backend_logs import ContainerLog, LogUnreadableError
from container_manager.logs.cursor import Position, container_key
from container_manager.logs.damage import (
    WINDOWS,
    Completeness,
    Key,
    first_of_tail,
    key_of,
)
from container_manager.logs.seeking import MARGIN_NS, AfterPosition, FromEntry, FromStart, Seeker
from container_manager.logs.stretches import DamagedLog, Stretch, last_of
from container_manager.model import LogEntry, RawEntry

MAX_BATCH_ENTRIES = 250
"""More entries at once are not faster, and keep the event loop from other work for longer."""

# So many entries before a tail are read with it, so that its first line has all its pieces.
_CONTEXT = 256

# A reading of at most so many bytes is held until it is checked; a larger one is read again.
_MOST_HELD_BYTES = 1 << 20
# So many bytes of memory an entry takes beside its line.
_ENTRY_BYTES = 160


@dataclass(frozen=True, slots=True)
class LogOptions:
    """The part of a log to read."""

    follow: bool = False
    """Continue with new entries until the container is removed."""
    tail_lines: int | None = None
    """Number of existing entries to begin with. If that would begin within a long line, begin with the line's first
    piece. ``None``: all."""
    after_ns: int | None = None
    """Only entries after the one with this time."""
    after: Position | None = None
    """Only entries after this one, which may be of another container."""
    limit_bytes: int | None = None
    """Maximum number of bytes in all lines together; the stream ends before the entry that would exceed it."""


@dataclass(slots=True)
class _Reading:
    """A reading of existing entries."""

    seeker: Seeker
    tail: int | None
    intact: AsyncGenerator[list[RawEntry], None] | None = None
    """These entries instead of the log's."""
    damage: LogUnreadableError | None = None
    first: Key | None = None
    """The first entry, when it was last read."""
    most: int | None = None
    """Nothing is delivered if more entries than this follow the place."""
    exceeded: bool = False
    """More entries follow it."""


_Readings = AsyncIterator[_Reading]


class ExistingEntries:
    """What one reader has received of a log, and what there is for it to receive."""

    def __init__(self, log: ContainerLog, container_id: str, options: LogOptions) -> None:
        self.last: Position | None = None
        """The last entry that was read; ``None``: the next one is the first of the log."""
        self.progress = False
        """Entries have been delivered since this was set to false."""
        self._log = log
        self._container = container_key(container_id)
        self._tail = options.tail_lines
        # Nothing is delivered before the entry that is shown at this time, or the first later one.
        self._after_ns = options.after_ns
        former = options.after is not None and options.after.container != self._container
        self._after = None if former else options.after
        self.gap = former
        """Entries are missing before the next one to be delivered."""

    async def batches(self) -> AsyncGenerator[list[LogEntry], None]:
        """The entries that exist now and have not been delivered, at most :data:`MAX_BATCH_ENTRIES` at once.

        Raises the errors of :class:`~container_manager.backend_logs.ContainerLog`. For a damaged log, raises
        :class:`LogUnreadableError` after all entries that can be read.
        """
        async for reading in self._readings():
            seeker = reading.seeker
            try:
                if reading.intact is None and not await self._finds_its_place(reading):
                    continue
                from_start = seeker.found and reading.tail is None
                async with aclosing(reading.intact or self._log.existing(reading.tail)) as raw_batches:
                    async for raw in raw_batches:
                        if from_start and reading.first not in (None, key_of(raw[0])):
                            # The engine has dropped the oldest entries since they were read.
                            self.gap = True
                        from_start = False
                        for batch in self.select(raw, seeker):
                            yield batch
                if batch := self._deliver(seeker.end(), seeker):
                    yield batch
            except LogUnreadableError as exc:
                reading.damage = exc
        self._tail = self._after = None

    async def _finds_its_place(self, reading: _Reading) -> bool:
        """Whether there is anything to deliver. Raises :class:`LogUnreadableError` if entries would be left out.

        An engine passes over damaged entries without a word, and intact ones behind them. That shows only at the end of
        a reading, and then it would be too late to deliver them. So the entries are held until then if they are few.
        """
        held: deque[list[RawEntry]] = deque()
        left, behind = _MOST_HELD_BYTES, 0
        seeker, completeness = deepcopy(reading.seeker), Completeness(self._log, reading.tail)
        async with aclosing(self._log.existing(reading.tail)) as raw_batches:
            async for raw in raw_batches:
                completeness.see(raw)
                reading.first = reading.first or key_of(raw[0])
                behind += len(raw if seeker.found else seeker.take(raw))
                if seeker.hopeless:
                    return False
                left -= sum(len(line) + _ENTRY_BYTES for _, _, line, _ in raw)
                if left >= 0:
                    held.append(raw)
                else:
                    held.clear()
        behind += len(seeker.end())
        reading.exceeded = reading.most is not None and behind > reading.most
        if reading.exceeded:
            return False
        if seeker.found or reading.tail is None:
            await completeness.check()
        if left >= 0:
            reading.intact = _emptied(held)
        return seeker.found

    def select(self, entries: list[RawEntry], seeker: Seeker) -> Iterator[list[LogEntry]]:
        """What the seeker selects of the next entries of a reading, as of :meth:`batches`."""
        # The caller's writes let other tasks run in between.
        for begin in range(0, len(entries), MAX_BATCH_ENTRIES):
            if batch := self._deliver(seeker.take(entries[begin : begin + MAX_BATCH_ENTRIES]), seeker):
                yield batch

    def _deliver(self, placed: list[LogEntry], seeker: Seeker) -> list[LogEntry]:
        if seeker.found and seeker.placing is not None:
            self.last = seeker.placing.last
        if self._after_ns is not None:
            begin = next((at for at, entry in enumerate(placed) if entry.time_ns >= self._after_ns), None)
            if begin is None:
                return []
            # Deliver all that follow, even if the clock was set back.
            placed = placed[begin + (placed[begin].time_ns == self._after_ns) :]
            self._after_ns = None
        if placed:
            self.progress = True
            if self.gap:
                placed[0] = placed[0]._replace(gap=True)
                self.gap = False
        return placed

    async def _readings(self) -> _Readings:
        """The readings that find the next entry and deliver from there on."""
        tail, after = self._tail if self.last is None else None, self.last or self._after
        if tail == 0:
            await self._skip_all()
            return
        if after is not None:
            readings = self._behind(after, tail)
        elif tail is not None:
            readings = self._last_lines(tail)
        else:
            readings = self._all() if self._after_ns is None else self._since(self._after_ns)
        async for reading in readings:
            yield reading

    async def _all(self) -> _Readings:
        async for reading in self._until_found([_Reading(FromStart(self._container), None)]):
            yield reading

    async def _behind(self, position: Position, most: int | None) -> _Readings:
        """What follows an entry, or the last ``most`` of that; if the log has lost the entry: all, with a gap."""
        # The first entries of a log are found by their number from its start.
        tails = (None,) if position.leads else (*WINDOWS, None)
        readings = [_Reading(AfterPosition(position, whole=tail is None), tail, most=most) for tail in tails]
        async for reading in self._until_found(readings, position, most):
            yield reading
        if not any(reading.damage or reading.seeker.found for reading in readings):
            self.gap = not any(reading.exceeded for reading in readings)
            async for reading in self._all() if most is None else self._last_lines(most, position):
                yield reading

    async def _since(self, after_ns: int) -> _Readings:
        """What is shown after a time."""
        # If it is in the future, the clock was set back, and newer entries have earlier times.
        tails = () if after_ns > time.time_ns() else WINDOWS
        readings = [_Reading(FromStart(self._container, after_ns - MARGIN_NS), tail) for tail in tails]
        async for reading in self._until_found([*readings, _Reading(FromStart(self._container), None)]):
            yield reading

    async def _last_lines(self, count: int, position: Position | None = None) -> _Readings:
        """The last entries, from the first piece of the first one's line on."""
        first, readings = None, []
        with suppress(LogUnreadableError):
            first = await first_of_tail(self._log, count)
        if first is not None:
            readings = [
                _Reading(FromEntry(self._container, first, position, whole=False), count + _CONTEXT),
                _Reading(FromEntry(self._container, first, position, whole=True), None),
            ]
        readings.append(_Reading(FromStart(self._container), count))
        async for reading in self._until_found(readings, position, count):
            yield reading

    async def _until_found(
        self, readings: Iterable[_Reading], position: Position | None = None, tail: int | None = None
    ) -> _Readings:
        """These readings, up to one that finds its place or meets damage, and what can be read around that.

        ``position`` and ``tail``: where the caller's part of the log begins, if that is not its start.
        """
        for reading in readings:
            yield reading
            if reading.damage is not None:
                async for intact in self._around(reading.damage, position, tail):
                    yield intact
            if reading.damage is not None or reading.seeker.found or reading.exceeded:
                return

    async def _around(self, damage: LogUnreadableError, position: Position | None, tail: int | None) -> _Readings:
        """What can be read of a damaged log. Raises the error if the damage is in the caller's part."""
        position = self.last or position
        log = DamagedLog(self._log)
        # Whether the log has the position shows in the stretch that has it only.
        found = await log.stretches(position, tail if position is None else None)
        has_position = any(stretch.following is not None for stretch in found)
        # What follows an entry that was delivered is wanted, however much it is by now.
        wanted = found if tail is None or (self.last is not None and has_position) else last_of(found, tail)
        for index, stretch in enumerate(wanted):
            if stretch.following is not None and position is not None:
                yield _Reading(AfterPosition(position, whole=True), stretch.tail, log.read(stretch))
                continue
            is_tail = sum(each.length for each in wanted) == tail
            is_missed = position is not None and not has_position
            if index or is_missed or not (is_tail or await log.begins_with(stretch)):
                self.gap = True
            yield _Reading(FromStart(self._container), stretch.tail, log.read(stretch))
        end = found[-1] if found and found[-1].is_last else Stretch(0, 0)
        if not (end.following is not None or (tail is not None and end.length >= tail)):
            raise damage

    async def _skip_all(self) -> None:
        """Deliver nothing of what exists."""
        for tail in (_CONTEXT, None):
            completeness = Completeness(self._log, tail)
            try:
                self.last = await self._last_of(self._log.existing(tail), completeness)
                await completeness.check()
            except LogUnreadableError:
                # The reading may have ended at damage, and the log goes on behind that.
                log = DamagedLog(self._log)
                for stretch in (await log.stretches(None, 1))[-1:]:
                    self.last = await self._last_of(log.read(stretch))
                return
            if self.last is None or not self.last.leads:
                return

    async def _last_of(
        self, readable: AsyncGenerator[list[RawEntry], None], completeness: Completeness | None = None
    ) -> Position | None:
        """The position of the last entry of a reading, which ``completeness`` sees."""
        seeker = FromStart(self._container)
        async with aclosing(readable) as raw_batches:
            async for raw in raw_batches:
                seeker.take(raw)
                if completeness is not None:
                    completeness.see(raw)
        return None if seeker.placing is None else seeker.placing.last


async def _emptied(batches: deque[list[RawEntry]]) -> AsyncGenerator[list[RawEntry], None]:
    """The batches, each removed when it is delivered."""
    while batches:
        yield batches.popleft()
