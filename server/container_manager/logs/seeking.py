"""Finds where a reading begins to deliver, among the last entries of a log or all of them.

Each seeker receives the entries of one reading in order, and returns those to deliver. If it has not found its place, a
reading of more entries may.
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
    """Sees the entries of one reading."""

    found: bool
    """The place has been found: what follows is delivered."""
    hopeless: bool
    """It will not be found in this reading."""
    placing: Placing | None
    """Has placed the last entry that was taken, if the place has been found."""

    def take(self, entries: Sequence[RawEntry]) -> list[LogEntry]:
        """Those of the next entries that are to be delivered."""

    def end(self) -> list[LogEntry]:
        """The entries held back until now, when the reading has reached its end."""


class FromStart:
    """Delivers everything."""

    def __init__(self, container: bytes, begins_before_ns: int | None = None) -> None:
        """``begins_before_ns``: deliver nothing if the first entry is not older than this."""
        self.found = begins_before_ns is None
        self.hopeless = False
        self.placing: Placing | None = None
        self._begins_before_ns = begins_before_ns
        self._container = container

    def take(self, entries: Sequence[RawEntry]) -> list[LogEntry]:
        if self.placing is None and entries:
            self.found = self._begins_before_ns is None or entries[0][0] < self._begins_before_ns
            self.hopeless = not self.found
            self.placing = Placing(self._container)
        return self.placing.place(entries) if self.placing is not None and self.found else []

    def end(self) -> list[LogEntry]:
        return []


class AfterPosition:
    """Delivers what follows a position."""

    def __init__(self, position: Position, *, whole: bool) -> None:
        """``whole``: the reading has all entries that the log has, so there is nothing to be found before them."""
        self.found = False
        self.hopeless = False
        self.placing: Placing | None = None
        self._position = position
        self._whole = whole
        self._engine_ns: int | None = None
        self._number = self._before = 0
        # Whether the first entry of the present time has been seen.
        self._counted = False
        # In a run that may be the position's: the entries from the one that looks like it, until the run has ended.
        self._held: list[RawEntry] = []
        self._alike = 0

    def take(self, entries: Sequence[RawEntry]) -> list[LogEntry]:
        if self.placing is not None:
            return self.placing.place(entries)
        if self._engine_ns is None and entries and not self._whole:
            # Probably all of them are later then. If the clock was set back, reading more entries finds it too.
            self.hopeless = entries[0][0] > self._position.engine_ns
        return [] if self.hopeless else self._seek(entries)

    def _seek(self, entries: Sequence[RawEntry]) -> list[LogEntry]:
        position = self._position
        wanted_ns = position.engine_ns
        for index, (engine_ns, source, line, _) in enumerate(entries):
            if engine_ns != self._engine_ns:
                if self._engine_ns is not None:
                    self._counted, self._before = True, rest_of(self._engine_ns)
                self._engine_ns = engine_ns
                self._number = 0
                if self._held:
                    rest = self.end()
                    if self.found:
                        return [*rest, *self.take(entries[index:])]
            else:
                self._number += 1
            if engine_ns != wanted_ns:
                continue
            alike = position.is_of(source, line)
            known = self._before == position.before if self._counted else self._whole and position.leads
            if known and alike and self._number == position.number:
                return self._begin(entries[index + 1 :])
            # A backend may show entries before those that were the first ones, once it can read them again.
            if self._whole and (position.leads or not self._counted):
                self._hold(entries[index], alike=alike)
        return []

    def end(self) -> list[LogEntry]:
        # The first entries of this time may have left the log, so the number says nothing. The only entry that looks
        # like the position's is that; of equal pieces of a line, nobody can say which.
        held, self._held = self._held, []
        return self._begin(held[1:]) if self._alike == 1 and not self.found else []

    def _hold(self, entry: RawEntry, *, alike: bool) -> None:
        line = entry[2]
        # The last piece of a line of equal pieces is shorter.
        self._alike += alike or (bool(self._held) and bool(line) and self._held[0][2].startswith(line))
        if self._alike == 1:
            self._held.append(entry)
        else:
            self._held.clear()

    def _begin(self, entries: Sequence[RawEntry]) -> list[LogEntry]:
        self.found = True
        self._held = []
        self.placing = Placing(self._position.container, self._position)
        return self.placing.place(entries)


class FromEntry:
    """Delivers a tail: what follows from its first entry on, or from the first piece of that entry's line on."""

    def __init__(self, container: bytes, first: RawEntry, after: Position | None, *, whole: bool) -> None:
        """``first``: as it was read before. ``after``: begin behind this one if it is a piece of that line. ``whole``:
        as of :class:`AfterPosition`.
        """
        self.found = False
        self.hopeless = False
        self.placing: Placing | None = None
        self._placing = Placing(container)
        self._first = first
        # The position that has not been seen yet. One of another time is not in the line.
        self._after = after if after is not None and after.engine_ns == first[0] else None
        # The time of the reading's first entry, which may not be the first one of that time in the log.
        self._uncounted_ns: int | None = None
        self._whole = whole
        # The entries from the first piece of a line on that may go on, of the same time and source.
        self._line: list[LogEntry] = []
        self._goes_on = False

    def take(self, entries: Sequence[RawEntry]) -> list[LogEntry]:
        placed = self._placing.place(entries)
        if self.found or not entries:
            return placed
        if self._uncounted_ns is None:
            self._uncounted_ns = entries[0][0]
            self.hopeless = not self._whole and self._uncounted_ns == self._first[0]
        for index, entry in enumerate(entries):
            if entry[:2] == self._first[:2]:
                if not self._goes_on:
                    self._line.clear()
                self._line.append(placed[index])
                self._goes_on = entry[3]
                if entry == self._first and self._after is None and not self.hopeless:
                    self.found, self.placing = True, self._placing
                    return [*self._line, *placed[index + 1 :]]
            elif self._goes_on:
                self._line.append(placed[index])
            # The time that is shown depends on where a reading begins.
            if self._after is not None and position_of(placed[index].cursor.decode())[:-1] == self._after[:-1]:
                self._after = None
                self._line.clear()
        return []

    def end(self) -> list[LogEntry]:
        return []
