"""Finds where a reading begins to deliver, among the last entries of a log or all of them.

Each seeker receives the entries of one reading in order: it sees them to find its place, or takes them and returns
those to deliver. If it has not found its place, a reading of more entries may. It keeps no entries, as a line may have
any number of pieces: where only later entries show its place, another reading delivers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from container_manager.logs.cursor import CLOCK_STEP_NS, Placing, Position, position_of, rest_of
from container_manager.model import LogEntry, RawEntry

MARGIN_NS = CLOCK_STEP_NS + 1_000_000_000
"""How far before a time a reading has to start for the times of all entries from there on to be exact.

An entry before that could only have moved entries that are at least a second older. Those move others by a nanosecond
each, and no log holds the 10^9 entries that would be needed to bridge that second.
"""


class Seeker(Protocol):
    """Sees or takes the entries of one reading."""

    found: bool
    """The place has been found: what follows is delivered."""
    hopeless: bool
    """It will not be found in this reading."""
    behind: int
    """How many of the entries seen follow the position, if one is looked for."""
    placing: Placing | None
    """Has placed the last entry that was taken, if the place has been found."""

    def see(self, entries: Sequence[RawEntry]) -> None:
        """The next entries, none of which is delivered."""

    def end(self) -> None:
        """The reading has reached its end."""

    def take(self, entries: Sequence[RawEntry]) -> list[LogEntry]:
        """Those of the next entries that are to be delivered."""

    def again(self) -> Seeker:
        """Takes the entries of another reading, at the place that was found in this one."""


class FromStart:
    """Delivers everything."""

    def __init__(self, container: bytes, begins_before_ns: int | None = None) -> None:
        """``begins_before_ns``: deliver nothing if the first entry is not older than this."""
        self.found = begins_before_ns is None
        self.hopeless = False
        self.behind = 0
        self.placing: Placing | None = None
        self._begins_before_ns = begins_before_ns
        self._container = container

    def see(self, entries: Sequence[RawEntry]) -> None:
        if entries and not self.found:
            self.found = self._begins_before_ns is None or entries[0][0] < self._begins_before_ns
            self.hopeless = not self.found

    def end(self) -> None:
        pass

    def take(self, entries: Sequence[RawEntry]) -> list[LogEntry]:
        if self.placing is None:
            self.see(entries)
            if not self.found:
                return []
            self.placing = Placing(self._container)
        return self.placing.place(entries)

    def again(self) -> Seeker:
        return FromStart(self._container, self._begins_before_ns)


class AfterPosition:
    """Delivers what follows a position."""

    def __init__(self, position: Position, *, whole: bool) -> None:
        """``whole``: the reading has all entries that the log has, so there is nothing to be found before them."""
        self.found = False
        self.hopeless = False
        self.behind = 0
        self.placing: Placing | None = None
        self.position = position
        """Once it is found, as it is numbered in this reading."""
        self._whole = whole
        self._engine_ns: int | None = None
        self._number = self._before = 0
        # Whether the first entry of the present time has been seen.
        self._counted = False
        # In a run that may be the position's, until the run has ended: how many entries look like it, and the first.
        self._alike = 0
        self._line = b""
        self._here = position

    def see(self, entries: Sequence[RawEntry]) -> None:
        if self.found:
            self.behind += len(entries)
            return
        if self._engine_ns is None and entries and not self._whole:
            # Probably all of them are later then. If the clock was set back, reading more entries finds it too.
            self.hopeless = entries[0][0] > self.position.engine_ns
        if not self.hopeless:
            self._seek(entries)

    def _seek(self, entries: Sequence[RawEntry]) -> None:
        position = self.position
        wanted_ns = position.engine_ns
        for index, (engine_ns, source, line, _) in enumerate(entries):
            if engine_ns != self._engine_ns:
                self.end()
                if self.found:
                    self.behind += len(entries) - index
                    return
                if self._engine_ns is not None:
                    self._counted, self._before = True, rest_of(self._engine_ns)
                self._engine_ns = engine_ns
                self._number = 0
            else:
                self._number += 1
            if engine_ns != wanted_ns:
                continue
            alike = position.is_of(source, line)
            known = self._before == position.before if self._counted else self._whole and position.leads
            if known and alike and self._number == position.number:
                self.found, self.behind = True, len(entries) - index - 1
                return
            # A backend may show entries before those that were the first ones, once it can read them again.
            if self._whole and (position.leads or not self._counted):
                self._compare(line, alike=alike)

    def _compare(self, line: bytes, *, alike: bool) -> None:
        # The last piece of a line of equal pieces is shorter.
        self._alike += alike or (self._alike > 0 and bool(line) and self._line.startswith(line))
        if self._alike == 1 and alike:
            self._line = line
            self._here = self.position._replace(number=self._number, leads=not self._counted, before=self._before)
        elif self._alike == 1:
            self.behind += 1
        else:
            self.behind = 0

    def end(self) -> None:
        # The first entries of this time may have left the log, so the number says nothing. The only entry that looks
        # like the position's is that; of equal pieces of a line, nobody can say which.
        if self._alike == 1 and not self.found:
            self.found, self.position = True, self._here

    def take(self, entries: Sequence[RawEntry]) -> list[LogEntry]:
        if self.placing is None:
            self.see(entries)
            if self.found and self.behind > len(entries):
                # It was recognized too late.
                self.found, self.hopeless = False, True
            if not self.found:
                return []
            self.placing = Placing(self.position.container, self.position)
            entries = entries[len(entries) - self.behind :]
        return self.placing.place(entries)

    def again(self) -> Seeker:
        return AfterPosition(self.position, whole=self._whole)


class FromEntry:
    """Delivers a tail: what follows from its first entry on, or from the first piece of that entry's line on.

    Delivers nothing unless it was seen in another reading where the line begins.
    """

    def __init__(self, container: bytes, first: RawEntry, after: Position | None, *, whole: bool) -> None:
        """``first``: as it was read before. ``after``: begin behind this one if it is a piece of that line. ``whole``:
        as of :class:`AfterPosition`.
        """
        self.found = False
        self.hopeless = False
        self.behind = 0
        self.placing: Placing | None = None
        self._container = container
        self._placing = Placing(container)
        self._first = first
        # The position that has not been seen yet. One of another time is not in the line.
        self._after = after if after is not None and after.engine_ns == first[0] else None
        # The time of the reading's first entry, which may not be the first one of that time in the log.
        self._uncounted_ns: int | None = None
        self._whole = whole
        # The first piece of a line that may go on, of the same time and source.
        self._begin: Position | None = None
        self._goes_on = False

    def see(self, entries: Sequence[RawEntry]) -> None:
        if self.found or not entries:
            return
        if self._uncounted_ns is None:
            self._uncounted_ns = entries[0][0]
            self.hopeless = not self._whole and self._uncounted_ns == self._first[0]
        for entry, shown in zip(entries, self._placing.place(entries), strict=True):
            is_piece = entry[:2] == self._first[:2]
            if is_piece and not self._goes_on:
                self._begin = None
            if self._begin is None and (is_piece or self._goes_on):
                self._begin = _position(shown)
            if is_piece:
                self._goes_on = entry[3]
                if entry == self._first and self._after is None and not self.hopeless:
                    self.found = True
                    return
            if self._after is not None and _is_at(shown, self._after):
                self._after = self._begin = None

    def end(self) -> None:
        pass

    def take(self, entries: Sequence[RawEntry]) -> list[LogEntry]:
        placed = self._placing.place(entries)
        if self.found:
            return placed
        for index, shown in enumerate(placed):
            if self._begin is not None and entries[index][0] == self._first[0] and _is_at(shown, self._begin):
                self.found, self.placing = True, self._placing
                return placed[index:]
        return []

    def again(self) -> Seeker:
        seeker = FromEntry(self._container, self._first, None, whole=self._whole)
        seeker._begin = self._begin
        return seeker


def _position(entry: LogEntry) -> Position:
    return position_of(entry.cursor.decode())


def _is_at(entry: LogEntry, position: Position) -> bool:
    # The time that is shown depends on where a reading begins.
    return _position(entry)[:-1] == position[:-1]
